"""The last step of a detection head with static shapes, and its result as it is copied to the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitmalis.detector.fused.suppression import suppress
from vitmalis.types import Detections

COLUMNS = 6
"""Numbers of a packed detection: left, top, right, bottom, score (-1 for a place without one), class of the model."""

ABSENT = -1.0


def clipped(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Clip boxes (..., 4) to an image (height, width); numbers that are not finite become 0."""
    height, width = image_size
    x0, y0, x1, y1 = boxes.nan_to_num(0.0, 0.0, 0.0).unbind(-1)
    return torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], -1)


def solid(boxes: Tensor) -> Tensor:
    """Which boxes (..., 4) are not empty."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """Take values (B, N, C) at index (B, M): (B, M, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def select(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    nms_iou: float,
    max_detections: int,
) -> Tensor:
    """Clip, suppress and keep the best, as `postprocess.select_detections` does, in a fixed number of places.

    Args:
        boxes: float32 (B, N, 4), xyxy in pixels, best first.
        scores: float32 (B, N), falling, `ABSENT` for places without a candidate.
        labels: int (B, N), classes of the model.
        image_size: (height, width) before padding.
        nms_iou: overlap above which the box with the lower score is dropped.
        max_detections: largest number of boxes that are kept.

    Returns:
        float32 (B, max_detections, COLUMNS), see `COLUMNS`.
    """
    boxes = clipped(boxes, image_size)
    keep = suppress(boxes, labels.int(), scores > ABSENT, nms_iou)
    kept, order = scores.masked_fill(~keep, ABSENT).topk(min(max_detections, scores.shape[1]))
    boxes = gathered(boxes, order)
    kept = kept.masked_fill(~solid(boxes), ABSENT)
    found = torch.cat([boxes, kept[..., None], labels.gather(1, order)[..., None].float()], -1)
    return F.pad(found, (0, 0, 0, max_detections - found.shape[1]), value=ABSENT)


def unpacked(packed: NDArray[np.float32], classes: Sequence[int]) -> Detections:
    """Detections in the places (places, COLUMNS) of one image; labels by each class's index into `COCO_CLASSES`."""
    found = packed[packed[:, 4] > ABSENT]
    return Detections(
        found[:, :4].copy(), found[:, 4].copy(), np.asarray(classes, np.int64)[found[:, 5].astype(np.int64)]
    )
