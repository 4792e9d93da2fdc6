"""Pooling of the pyramid's features inside boxes (RoIAlign), each box from the level of its size.

Ported from detectron2: https://github.com/facebookresearch/detectron2/blob/02b5c4e295e9/detectron2/modeling/poolers.py
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

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


def pool_boxes(levels: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, side: int) -> Tensor:
    """Pool the features inside each box of one image (RoIAlign) from the level that suits the size of the box.

    Boxes and features enter RoIAlign in fp32, whatever the precision of the model: bfloat16 rounds a coordinate near
    1920 px by up to 4 px, and the box head would see another part of the image.

    Args:
        levels: each (1, C, H_l, W_l).
        strides: pixels per cell of each level.
        boxes: (P, 4), xyxy in pixels.
        side: cells that a box is pooled to, along each axis.

    Returns:
        float32 (P, C, side, side).
    """
    channels = levels[0].shape[1]
    pooled = boxes.new_zeros((len(boxes), channels, side, side), dtype=torch.float32)
    level_of = assign_levels(boxes, strides)
    for index, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        chosen = (level_of == index).nonzero().flatten()
        rois = [boxes[chosen].float()]
        pooled[chosen] = roi_align(level.float(), rois, side, 1 / stride, sampling_ratio=0, aligned=True)
    return pooled
