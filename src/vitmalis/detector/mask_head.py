"""The mask branch of Mask R-CNN (https://arxiv.org/abs/1703.06870): a mask in each detected box.

Ported from detectron2 with its parameter names, so that published weights load as they are:
https://github.com/facebookresearch/detectron2/blob/02b5c4e295e9/detectron2/modeling/roi_heads/mask_head.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.config import DetectorConfig, MaskConfig
from vitmalis.detector.pooling import pool_boxes
from vitmalis.detector.pyramid import NormedConv2d
from vitmalis.instance_masks import MASK_SIDE, Masks, filled_masks, quantized
from vitmalis.types import Detections

POOL_SIDE = MASK_SIDE // 2
"""Cells that a box is pooled to, along each axis; the transposed convolution doubles them."""


class MaskHead(nn.Module):
    """Convolutions with channel norm, a transposed one that doubles the cells, and a 1 x 1 one to the masks.

    It runs on the boxes that are left after suppression, so boxes do not depend on it.

    Args:
        channels: of the pyramid.
        strides: pixels per cell of the levels that boxes are pooled from.
        classes: for each class of the model its index into `COCO_CLASSES`.
        config: the architecture.
    """

    def __init__(self, channels: int, strides: Sequence[int], classes: Sequence[int], config: MaskConfig) -> None:
        super().__init__()
        widths = (channels, *config.convs)
        self._convs = [f"mask_fcn{i}" for i in range(1, len(widths))]
        for name, (before, after) in zip(self._convs, pairwise(widths), strict=True):
            self.add_module(name, NormedConv2d(before, after, 3))
        self.deconv = nn.ConvTranspose2d(widths[-1], widths[-1], 2, stride=2)
        self.predictor = nn.Conv2d(widths[-1], len(classes) if config.per_class else 1, 1)
        self._strides, self._min_score = tuple(strides), config.min_score
        self._channel_of = {label: index if config.per_class else 0 for index, label in enumerate(classes)}

    @classmethod
    def of(cls, config: DetectorConfig) -> MaskHead | None:
        """The mask head of a detector, freshly initialised; None if it has none."""
        if config.mask_head is None:
            return None
        return cls(config.pyramid.channels, config.pyramid.strides, config.classes, config.mask_head)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features (P, channels, 14, 14) to logits (P, classes or 1, 28, 28)."""
        for name in self._convs:
            pooled = F.relu(cast(NormedConv2d, self.get_submodule(name))(pooled))
        logits: Tensor = self.predictor(F.relu(self.deconv(pooled)))
        return logits

    def logits(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Logits (P, classes or 1, 28, 28) of the masks in boxes (P, 4), xyxy in pixels, of one image.

        Args:
            levels: of the pyramid, each (1, channels, H_l, W_l), finest first.
            boxes: in pixels of the image that the levels are of.
        """
        return self(pool_boxes(levels[: len(self._strides)], self._strides, boxes, POOL_SIDE))

    def add_masks(self, levels: Sequence[Tensor], found: Sequence[Detections]) -> list[Detections]:
        """The detections of each image of a batch with their masks.

        Args:
            levels: of the pyramid, each (B, channels, H_l, W_l), finest first.
            found: of B images, in pixels of the images that the levels are of.
        """
        return [
            replace(own, masks=self._masks([level[i : i + 1] for level in levels], own)) for i, own in enumerate(found)
        ]

    def _masks(self, levels: Sequence[Tensor], found: Detections) -> Masks:
        """Masks of the detections of one image; they fill the boxes of scores below `min_score`."""
        masks, sure = filled_masks(len(found)), found.scores >= self._min_score
        masks[sure] = self._predicted(levels, found.select(sure))
        return masks

    def _predicted(self, levels: Sequence[Tensor], found: Detections) -> Masks:
        """Masks of detections of one image, each of the channel of its class."""
        device = levels[0].device
        channels = torch.tensor([self._channel_of[label] for label in found.labels.tolist()], dtype=torch.int64)
        logits = self.logits(levels, torch.from_numpy(found.boxes_xyxy).to(device))
        own = logits.float()[torch.arange(len(found), device=device), channels.to(device)]
        return as_masks(own.sigmoid())


def as_masks(probabilities: Tensor) -> Masks:
    """Masks (P, 28, 28) as `Detections` hold them, of probabilities 0..1."""
    return quantized(probabilities.detach().float().cpu().numpy())
