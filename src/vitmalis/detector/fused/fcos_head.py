"""The FCOS head with static shapes: from the levels of the pyramid to a fixed number of places for detections."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fcos_training import BOX_CODER, LevelGrid
from vitmalis.detector.fused.selection import ABSENT, gathered, select


class FusedFcosHead:
    """The head of an FCOS detector, its weights in the type that products run in."""

    def __init__(self, model: FcosDetector, dtype: torch.dtype) -> None:
        self._layers = copy.deepcopy(model.head).to(dtype=dtype, memory_format=torch.channels_last)
        self._strides = model.backbone.strides
        self._config = model.head_config

    def __call__(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Detect in levels (B, H_l, W_l, channels) of images (height, width) before padding: see `selection.select`."""
        head = self._config
        raw = self._layers([level.permute(0, 3, 1, 2) for level in levels])
        centreness = raw["bbox_ctrness"].float().sigmoid()  # (B, L, 1)
        scores = (raw["cls_logits"].float().sigmoid() * centreness).sqrt()  # (B, L, classes)
        scores = scores.masked_fill(~(scores > head.score_threshold), ABSENT).flatten(1)
        best, index = scores.topk(min(head.candidates, scores.shape[1]))
        classes = raw["cls_logits"].shape[2]
        cell = index // classes
        boxes = BOX_CODER.decode(gathered(raw["bbox_regression"].float(), cell), self._cells(levels)[cell])
        return select(
            boxes,
            best,
            index % classes,
            image_size=image_size,
            nms_iou=head.nms_iou,
            max_detections=head.max_detections,
        )

    def _cells(self, levels: Sequence[Tensor]) -> Tensor:
        grids = [
            LevelGrid(level.shape[1], level.shape[2], stride)
            for level, stride in zip(levels, self._strides, strict=True)
        ]
        return torch.cat([grid.cells(levels[0].device) for grid in grids])
