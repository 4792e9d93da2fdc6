"""Mask R-CNN (https://arxiv.org/abs/1703.06870) on ViTDet: boxes, and masks where the configuration asks for them.

Ported from detectron2 with its parameter names, so that published weights load as they are:
https://github.com/facebookresearch/detectron2/tree/02b5c4e295e9/detectron2/modeling/roi_heads
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import DetectorConfig, RcnnConfig
from vitmalis.detector.mask_head import MaskHead
from vitmalis.detector.pooling import pool_boxes
from vitmalis.detector.postprocess import select_detections
from vitmalis.detector.pyramid import NormedConv2d, ViTDetBackbone
from vitmalis.detector.rpn import RegionProposals
from vitmalis.types import Detections

BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
POOL_SIDE = 7
"""Cells that a box is pooled to for the box head, along each axis."""


class BoxHead(nn.Module):
    """Four convolutions with channel norm and one fully connected layer."""

    def __init__(self, channels: int, config: RcnnConfig) -> None:
        super().__init__()
        widths = (channels, *config.box_convs)
        self._convs = [f"conv{i}" for i in range(1, len(widths))]
        for name, (before, after) in zip(self._convs, pairwise(widths), strict=True):
            self.add_module(name, NormedConv2d(before, after, 3))
        self.fc1 = nn.Linear(widths[-1] * POOL_SIDE * POOL_SIDE, config.box_width)

    @property
    def convs(self) -> list[NormedConv2d]:
        """The convolutions in their order."""
        return [cast(NormedConv2d, self.get_submodule(name)) for name in self._convs]

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, channels, 7, 7) to (P, box_width)."""
        for conv in self.convs:
            x = F.relu(conv(x))
        return F.relu(self.fc1(x.flatten(1)))


class BoxPredictor(nn.Module):
    """Class scores, background last, and one box per class."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes + 1)
        self.bbox_pred = nn.Linear(width, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (P, width) to logits (P, classes + 1) and deltas (P, 4 * classes), class-major."""
        return self.cls_score(x), self.bbox_pred(x)


class BoxHeads(nn.Module):
    """The second stage: classes and boxes of each proposal, and the head for the masks of what is detected."""

    def __init__(self, config: DetectorConfig, head: RcnnConfig) -> None:
        super().__init__()
        self.box_head = BoxHead(config.pyramid.channels, head)
        self.box_predictor = BoxPredictor(head.box_width, len(config.classes))
        self.mask_head = MaskHead.of(config)  # after the others, so that their random weights are the same without it
        self._strides = config.pyramid.strides  # the coarsest level, made by subsampling, serves proposals only

    def forward(self, levels: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Classify and refine boxes of one image.

        Args:
            levels: of the pyramid, each (1, C, H_l, W_l), finest first.
            boxes: (P, 4), xyxy in pixels.

        Returns:
            Logits (P, classes + 1), background last, and moved boxes (P, classes, 4).
        """
        pooled = pool_boxes(levels[: len(self._strides)], self._strides, boxes, POOL_SIDE)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits.float(), BOX_CODER.decode_single(deltas.float(), boxes).view(len(boxes), -1, 4)


def select_boxes(
    logits: Tensor, boxes: Tensor, image_size: tuple[int, int], head: RcnnConfig, classes: Sequence[int]
) -> Detections:
    """Select the detections of one image; one proposal may give several, of different classes.

    Args:
        logits: (P, classes + 1), background last.
        boxes: (P, classes, 4).
        image_size: (height, width) before padding.
        head: thresholds.
        classes: for each class of the model its index into `COCO_CLASSES`.
    """
    scores = logits.softmax(dim=1)[:, :-1]
    finite = scores.isfinite().all(dim=1) & boxes.isfinite().flatten(1).all(dim=1)
    scores, boxes = scores[finite], boxes[finite]
    proposal, label = (scores > head.score_threshold).nonzero(as_tuple=True)
    return select_detections(
        boxes[proposal, label],
        scores[proposal, label],
        label,
        image_size=image_size,
        nms_iou=head.nms_iou,
        max_detections=head.max_detections,
        classes=classes,
    )


class RcnnDetector(DetectionModel):
    """ViTDet with region proposals, box heads and perhaps a mask head."""

    config: DetectorConfig
    backbone: ViTDetBackbone

    def __init__(self, config: DetectorConfig, head: RcnnConfig) -> None:
        backbone = ViTDetBackbone.of(config)
        super().__init__(config, backbone)
        self.proposal_generator = RegionProposals(backbone.channels, backbone.strides, head)
        self.roi_heads = BoxHeads(config, head)
        self.head_config = head

    @property
    def mask_branch(self) -> MaskHead | None:
        """The mask head; None in a model that finds boxes only."""
        return self.roi_heads.mask_head

    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect objects in pyramid levels, each (B, channels, H_l, W_l), of images (height, width) before padding."""
        found = []
        for i, proposals in enumerate(self.proposal_generator(levels, [image_size] * len(levels[0]))):
            logits, boxes = self.roi_heads([level[i : i + 1] for level in levels], proposals.boxes)
            found.append(select_boxes(logits, boxes, image_size, self.head_config, self.config.classes))
        return self.with_masks(levels, found)
