"""The box branch of Mask R-CNN (https://arxiv.org/abs/1703.06870) on ViTDet.

Ported from detectron2 with its parameter names, so that published weights load as they are:
https://github.com/facebookresearch/detectron2/tree/02b5c4e295e9/detectron2/modeling/roi_heads
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import roi_align

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import DetectorConfig, RcnnConfig
from vitmalis.detector.postprocess import select_detections
from vitmalis.detector.pyramid import NormedConv2d, ViTDetBackbone
from vitmalis.detector.rpn import RegionProposals
from vitmalis.types import Detections

BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
POOL_SIZE = 7
CANONICAL_SIDE_PX = 224
"""Side of the boxes that are pooled from the level of stride 16."""


def assign_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The level that each box (P, 4) is pooled from, by its size (FPN, https://arxiv.org/abs/1612.03144, equation 1).

    Returns:
        int64 (P,), index into `strides`, which are within 4 to 32.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    exponent = torch.floor(4 + torch.log2(side / CANONICAL_SIDE_PX + 1e-8))
    finest, coarsest = (stride.bit_length() - 1 for stride in (strides[0], strides[-1]))
    return exponent.clamp(finest, coarsest).long() - finest


def pool_boxes(levels: Sequence[Tensor], strides: Sequence[int], boxes: Tensor) -> Tensor:
    """Pool the features inside each box of one image (RoIAlign) from the level that suits the size of the box.

    Boxes and features enter RoIAlign in fp32, whatever the precision of the model: bfloat16 rounds a coordinate near
    1920 px by up to 4 px, and the box head would see another part of the image.

    Args:
        levels: each (1, C, H_l, W_l).
        strides: pixels per cell of each level.
        boxes: (P, 4), xyxy in pixels.

    Returns:
        float32 (P, C, 7, 7).
    """
    channels = levels[0].shape[1]
    pooled = boxes.new_zeros((len(boxes), channels, POOL_SIZE, POOL_SIZE), dtype=torch.float32)
    level_of = assign_levels(boxes, strides)
    for index, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = (level_of == index).nonzero().flatten()
        rois = [boxes[chosen].float()]
        pooled[chosen] = roi_align(level.float(), rois, POOL_SIZE, 1 / stride, sampling_ratio=0, aligned=True)
    return pooled


class BoxHead(nn.Module):
    """Four convolutions with channel norm and one fully connected layer."""

    def __init__(self, channels: int, config: RcnnConfig) -> None:
        super().__init__()
        widths = (channels, *config.box_convs)
        self._convs = [f"conv{i}" for i in range(1, len(widths))]
        for name, (before, after) in zip(self._convs, pairwise(widths), strict=True):
            self.add_module(name, NormedConv2d(before, after, 3))
        self.fc1 = nn.Linear(widths[-1] * POOL_SIZE * POOL_SIZE, config.box_width)

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
    """The second stage: classes and boxes of each proposal."""

    def __init__(self, config: DetectorConfig, head: RcnnConfig) -> None:
        super().__init__()
        self.box_head = BoxHead(config.pyramid.channels, head)
        self.box_predictor = BoxPredictor(head.box_width, len(config.classes))
        self._strides = config.pyramid.strides  # the coarsest level, made by subsampling, serves proposals only

    def forward(self, levels: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Classify and refine boxes of one image.

        Args:
            levels: of the pyramid, each (1, C, H_l, W_l), finest first.
            boxes: (P, 4), xyxy in pixels.

        Returns:
            Logits (P, classes + 1), background last, and moved boxes (P, classes, 4).
        """
        pooled = pool_boxes(levels[: len(self._strides)], self._strides, boxes)
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
    """ViTDet with region proposals and box heads."""

    config: DetectorConfig
    backbone: ViTDetBackbone

    def __init__(self, config: DetectorConfig, head: RcnnConfig) -> None:
        backbone = ViTDetBackbone.of(config)
        super().__init__(config, backbone)
        self.proposal_generator = RegionProposals(backbone.channels, backbone.strides, head)
        self.roi_heads = BoxHeads(config, head)
        self.head_config = head

    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect objects in pyramid levels, each (B, channels, H_l, W_l), of images (height, width) before padding."""
        found = []
        for i, proposals in enumerate(self.proposal_generator(levels, [image_size] * len(levels[0]))):
            logits, boxes = self.roi_heads([level[i : i + 1] for level in levels], proposals.boxes)
            found.append(select_boxes(logits, boxes, image_size, self.head_config, self.config.classes))
        return found
