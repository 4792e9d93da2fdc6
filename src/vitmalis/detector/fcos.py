"""An anchor-free detector, FCOS (https://arxiv.org/abs/1904.01355), on a ViTDet backbone, with torchvision's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import FcosConfig, ModelConfig
from vitmalis.detector.postprocess import select_detections
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.types import BoolMask, Detections

BOX_CODER = BoxLinearCoder(normalize_by_size=True)
BACKGROUND = -1
IGNORED = -2


class HeadOutputs(NamedTuple):
    """Outputs of the head for each of the L cells of all levels, finest level first, raster order within a level.

    Attributes:
        logits: (B, L, classes), before the sigmoid.
        distances: (B, L, 4): left, top, right, bottom from the cell's centre, in strides, not negative.
        centreness: (B, L), before the sigmoid.
        cells: (L, 4): each cell as a box in pixels, xyxy; its side is the stride of its level.
    """

    logits: Tensor
    distances: Tensor
    centreness: Tensor
    cells: Tensor


def level_cells(rows: int, cols: int, stride: int, device: torch.device) -> Tensor:
    """The cells of one level as boxes: (rows * cols, 4), xyxy in pixels, raster order."""
    y, x = torch.meshgrid(
        torch.arange(rows, device=device) * stride, torch.arange(cols, device=device) * stride, indexing="ij"
    )
    return torch.stack([x, y, x + stride, y + stride], dim=-1).flatten(0, 1).float()


def inside(cells: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centre of each cell (L, 4) lies strictly inside each box (M, 4): bool (L, M)."""
    x, y = ((cells[:, :2] + cells[:, 2:]) / 2)[:, None].unbind(-1)  # each (L, 1)
    left, top, right, bottom = boxes.unbind(-1)  # each (M,)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def match_cells(cells: Tensor, boxes: Tensor, ignore_boxes: Tensor, centre_radius: float) -> Tensor:
    """Assign a training target to each cell.

    A cell learns an object when its centre is inside the box, within `centre_radius` strides of the box's centre along
    both axes, and the furthest side is within 4 to 8 strides (no lower bound at the finest level, no upper one at the
    coarsest); the smallest such object wins. Any other cell inside an ignore box is left out of the loss.

    Args:
        cells: (L, 4).
        boxes: (M, 4), xyxy in pixels.
        ignore_boxes: (K, 4), objects that may or may not be there.

    Returns:
        int64 (L,): index of a box, or BACKGROUND, or IGNORED.
    """
    matched = torch.full((len(cells),), BACKGROUND, dtype=torch.int64, device=cells.device)
    if len(ignore_boxes):
        matched[inside(cells, ignore_boxes).any(dim=1)] = IGNORED
    if not len(boxes):
        return matched
    stride = cells[:, 2] - cells[:, 0]  # (L,)
    centres = (cells[:, :2] + cells[:, 2:]) / 2  # (L, 2)
    offset = (centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)  # (L, M)
    reach = torch.maximum(centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]).amax(-1)  # (L, M)
    lower = torch.where(stride == stride.min(), 0.0, 4 * stride)
    upper = torch.where(stride == stride.max(), torch.inf, 8 * stride)
    good = (
        inside(cells, boxes)
        & (offset < centre_radius * stride[:, None])
        & (reach > lower[:, None])
        & (reach <= upper[:, None])
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)  # (M,)
    smallest, index = torch.where(good, area, torch.inf).min(dim=1)
    return torch.where(smallest < torch.inf, index, matched)


def centreness_of(distances: Tensor) -> Tensor:
    """Centreness of points in their boxes, 0..1: (..., 4) distances to left, top, right, bottom give (...)."""
    across, down = distances[..., [0, 2]], distances[..., [1, 3]]
    return ((across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))).clamp(min=0).sqrt()


def fcos_loss(
    outputs: HeadOutputs, targets: Sequence[dict[str, Tensor]], centre_radius: float = FcosConfig().centre_radius
) -> dict[str, Tensor]:
    """The three losses of FCOS, in float32, each a sum divided by the number of cells that learn an object.

    Args:
        outputs: of a batch of B images.
        targets: B dictionaries of `boxes` (n, 4) xyxy in pixels of the image, `labels` int64 (n,) classes of the
            model, and optionally `ignore_boxes` (m, 4): cells there that learn no object count neither as object
            nor as background.
        centre_radius: see `match_cells`.

    Returns:
        `classification`, `boxes`, `centreness`: scalars to be summed.
    """
    cells = outputs.cells
    none = cells.new_zeros((0, 4))
    matched = torch.stack(
        [match_cells(cells, t["boxes"], t.get("ignore_boxes", none), centre_radius) for t in targets]
    )  # (B, L)
    positive = matched >= 0
    count = positive.sum().clamp(min=1)

    logits = outputs.logits.float()
    wanted = torch.zeros_like(logits)
    image, cell = positive.nonzero(as_tuple=True)
    labels = torch.cat([t["labels"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)])
    wanted[image, cell, labels] = 1.0
    focal = sigmoid_focal_loss(logits, wanted)  # (B, L, classes)
    classification = (focal * (matched != IGNORED)[..., None]).sum() / count

    boxes = torch.cat([t["boxes"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)]).float()
    predicted = BOX_CODER.decode(outputs.distances[positive].float(), cells[cell])
    box_loss = generalized_box_iou_loss(predicted, boxes, reduction="sum") / count

    central = centreness_of(BOX_CODER.encode(cells[cell], boxes))
    centreness = F.binary_cross_entropy_with_logits(outputs.centreness[positive].float(), central, reduction="sum")
    return {"classification": classification, "boxes": box_loss, "centreness": centreness / count}


class FcosDetector(DetectionModel):
    """A transformer under a simple feature pyramid, and the FCOS head."""

    backbone: ViTDetBackbone

    def __init__(self, config: ModelConfig, backbone: ViTDetBackbone, head: FcosConfig) -> None:
        super().__init__(config, backbone)
        self.head = FCOSHead(backbone.channels, 1, len(config.classes), head.tower_convs)
        # The head's ReLU passes no gradient where it starts at or below zero; 4 strides is a usual distance.
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, 4.0)
        self._head_config = head

    def forward(
        self, images: Tensor, downsample_mask: BoolMask | None = None, restoration_point: int = 0
    ) -> HeadOutputs:
        """Map images to the outputs of every cell; arguments as of `predict`."""
        layout = self.layout((images.shape[2], images.shape[3]), downsample_mask)
        return self.head_outputs(self.backbone(self.prepare(images), layout, restoration_point))

    def head_outputs(self, levels: Sequence[Tensor]) -> HeadOutputs:
        """Run the head on the levels of the pyramid, each (B, channels, H_l, W_l)."""
        raw = self.head(levels)
        cells = [
            level_cells(level.shape[2], level.shape[3], stride, level.device)
            for level, stride in zip(levels, self.backbone.strides, strict=True)
        ]
        return HeadOutputs(raw["cls_logits"], raw["bbox_regression"], raw["bbox_ctrness"][..., 0], torch.cat(cells))

    def loss(self, outputs: HeadOutputs, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Losses of outputs of this model, see `fcos_loss`."""
        return fcos_loss(outputs, targets, self._head_config.centre_radius)

    def decode(self, outputs: HeadOutputs, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Decode the outputs of the head into detections.

        Args:
            outputs: of a batch of B images.
            image_sizes: B times (height, width) before padding.

        Returns:
            B `Detections` with labels of `COCO_CLASSES`, best first.
        """
        return [
            self._decode_one(logits.float(), distances.float(), centreness.float(), outputs.cells, size)
            for logits, distances, centreness, size in zip(*outputs[:3], image_sizes, strict=True)
        ]

    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect objects in pyramid levels, each (B, channels, H_l, W_l), of images (height, width) before padding."""
        return self.decode(self.head_outputs(levels), [image_size] * len(levels[0]))

    def _decode_one(
        self, logits: Tensor, distances: Tensor, centreness: Tensor, cells: Tensor, size: tuple[int, int]
    ) -> Detections:
        head = self._head_config
        scores = (logits.sigmoid() * centreness.sigmoid()[:, None]).sqrt()  # (L, classes)
        cell, label = (scores > head.score_threshold).nonzero(as_tuple=True)
        best, order = scores[cell, label].topk(min(head.candidates, len(cell)))
        cell, label = cell[order], label[order]
        return select_detections(
            BOX_CODER.decode(distances[cell], cells[cell]),
            best,
            label,
            image_size=size,
            nms_iou=head.nms_iou,
            max_detections=head.max_detections,
            classes=self.config.classes,
        )
