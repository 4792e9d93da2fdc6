"""FCOS matching and losses written image by image and cell by cell: slow, plain, and what the batched form equals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from vitmalis.detector.fcos_training import BACKGROUND, BOX_CODER, IGNORED, HeadOutputs, centreness_of


def inside(cells: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centre of each cell (L, 4) lies strictly inside each box (M, 4): bool (L, M)."""
    x, y = ((cells[:, :2] + cells[:, 2:]) / 2)[:, None].unbind(-1)
    left, top, right, bottom = boxes.unbind(-1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def match_image(cells: Tensor, boxes: Tensor, ignore_boxes: Tensor, centre_radius: float) -> Tensor:
    """`match_cells` for the cells (L, 4) and the boxes of one image: int64 (L,)."""
    matched = torch.full((len(cells),), BACKGROUND, dtype=torch.int64)
    if len(ignore_boxes):
        matched[inside(cells, ignore_boxes).any(dim=1)] = IGNORED
    if not len(boxes):
        return matched
    stride = cells[:, 2] - cells[:, 0]
    centres = (cells[:, :2] + cells[:, 2:]) / 2
    offset = (centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
    reach = torch.maximum(centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]).amax(-1)
    lower = torch.where(stride == stride.min(), 0.0, 4 * stride)
    upper = torch.where(stride == stride.max(), torch.inf, 8 * stride)
    good = (
        inside(cells, boxes)
        & (offset < centre_radius * stride[:, None])
        & (reach > lower[:, None])
        & (reach <= upper[:, None])
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    smallest, index = torch.where(good, area, torch.inf).min(dim=1)
    return torch.where(smallest < torch.inf, index, matched)


def loss_of_images(outputs: HeadOutputs, targets: list[dict[str, Tensor]], centre_radius: float) -> dict[str, Tensor]:
    """`fcos_loss` with targets that are not padded, and with torchvision's generalised IoU."""
    cells = outputs.cells
    matched = torch.stack([match_image(cells, t["boxes"], t["ignore_boxes"], centre_radius) for t in targets])
    positive = matched >= 0
    count = positive.sum().clamp(min=1)
    wanted = torch.zeros_like(outputs.logits)
    image, cell = positive.nonzero(as_tuple=True)
    wanted[image, cell, torch.cat([t["labels"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)])] = 1.0
    focal = sigmoid_focal_loss(outputs.logits, wanted) * (matched != IGNORED)[..., None]
    boxes = torch.cat([t["boxes"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)])
    predicted = BOX_CODER.decode(outputs.distances[positive], cells[cell])
    central = centreness_of(BOX_CODER.encode(cells[cell], boxes))
    centreness = F.binary_cross_entropy_with_logits(outputs.centreness[positive], central, reduction="sum")
    return {
        "classification": focal.sum() / count,
        "boxes": generalized_box_iou_loss(predicted, boxes, reduction="sum") / count,
        "centreness": centreness / count,
    }
