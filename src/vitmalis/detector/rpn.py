"""The region proposal network: anchors, a head that scores and refines them, and the selection of the best.

Ported from detectron2 with its parameter names:
https://github.com/facebookresearch/detectron2/blob/02b5c4e295e9/detectron2/modeling/proposal_generator/rpn.py
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image

from vitmalis.detector.config import RcnnConfig

BOX_CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))


class Proposals(NamedTuple):
    """Boxes of one image that may contain an object, best first.

    Attributes:
        boxes: (P, 4), xyxy in pixels.
        logits: (P,), before the sigmoid.
    """

    boxes: Tensor
    logits: Tensor


def level_anchors(
    rows: int, cols: int, stride: int, size_px: int, ratios: Sequence[float], device: torch.device
) -> Tensor:
    """Anchors of one level: (rows * cols * ratios, 4), xyxy, by row, column, ratio.

    They are centred on the top left corner of each cell, and not rounded (torchvision's generator rounds).

    Args:
        rows, cols: size of the level.
        stride: pixels per cell.
        size_px: square root of every anchor's area.
        ratios: height / width.
        device: where to make them.
    """
    ratio = torch.tensor(ratios, device=device)
    width = size_px / ratio.sqrt()  # (A,)
    half = torch.stack([-width, -width * ratio, width, width * ratio], dim=1) / 2  # (A, 4)
    y, x = torch.meshgrid(
        torch.arange(rows, device=device) * stride, torch.arange(cols, device=device) * stride, indexing="ij"
    )
    corner = torch.stack([x, y, x, y], dim=-1)  # (rows, cols, 4)
    return (corner[:, :, None] + half).flatten(0, 2)


def choose_proposals(
    level_boxes: Sequence[Tensor], level_logits: Sequence[Tensor], image_size: tuple[int, int], config: RcnnConfig
) -> Proposals:
    """Select the best proposals of one image.

    From each level the best by logit; of these, the finite ones that are not empty inside the image, after non-maximum
    suppression within the level; of all levels, the best.

    Args:
        level_boxes: per level (A_l, 4).
        level_logits: per level (A_l,).
        image_size: (height, width) before padding.
        config: how many, and the overlap above which a box is suppressed.
    """
    boxes, logits, levels = [], [], []
    for level, (all_boxes, all_logits) in enumerate(zip(level_boxes, level_logits, strict=True)):
        best, index = all_logits.topk(min(config.proposals, len(all_logits)))
        boxes.append(all_boxes[index])
        logits.append(best)
        levels.append(torch.full_like(index, level))
    box, logit, of_level = torch.cat(boxes), torch.cat(logits), torch.cat(levels)
    finite = box.isfinite().all(dim=1) & logit.isfinite()
    box = clip_boxes_to_image(box, image_size)
    valid = finite & (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    box, logit, of_level = box[valid], logit[valid], of_level[valid]
    keep = batched_nms(box, logit, of_level, config.proposal_nms_iou)[: config.proposals]
    return Proposals(box[keep], logit[keep])


class RpnHead(nn.Module):
    """Two convolutions, then an objectness logit and box deltas for every anchor."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(channels, channels, 3, padding=1),
                relu0=nn.ReLU(),
                conv1=nn.Conv2d(channels, channels, 3, padding=1),
                relu1=nn.ReLU(),
            )
        )
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors, 1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, channels, H, W) to logits (B, A, H, W) and deltas (B, 4 * A, H, W), anchor-major."""
        hidden = self.conv(level)
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class RegionProposals(nn.Module):
    """The region proposal network over all levels."""

    def __init__(self, channels: int, strides: Sequence[int], config: RcnnConfig) -> None:
        super().__init__()
        self.rpn_head = RpnHead(channels, len(config.aspect_ratios))
        self._strides = tuple(strides)
        self._config = config

    def forward(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Propose boxes for each of B images.

        Args:
            levels: of the pyramid, each (B, channels, H_l, W_l).
            image_sizes: B times (height, width) before padding.
        """
        boxes, logits = [], []
        for level, stride, size_px in zip(levels, self._strides, self._config.anchor_sizes_px, strict=True):
            objectness, deltas = self.rpn_head(level)
            batch, _, rows, cols = objectness.shape
            anchors = level_anchors(rows, cols, stride, size_px, self._config.aspect_ratios, level.device)
            deltas = deltas.float().unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)  # (B, H, W, A, 4)
            decoded = BOX_CODER.decode_single(deltas.reshape(-1, 4), anchors.repeat(batch, 1))
            boxes.append(decoded.view(batch, -1, 4))
            logits.append(objectness.float().permute(0, 2, 3, 1).flatten(1))  # (B, H * W * A)
        return [
            choose_proposals([b[i] for b in boxes], [x[i] for x in logits], size, self._config)
            for i, size in enumerate(image_sizes)
        ]
