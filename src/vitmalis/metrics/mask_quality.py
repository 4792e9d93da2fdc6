"""Quality of masks: F1, mean IoU and mean boundary F1 of the masks shown, or of those in results.

Masks match as boxes do (`vitmalis.matching`), by the IoU of their pixels instead of that of boxes. The means are over
the pairs that match: IoU compares what they cover, boundary F1 their outlines. How many match is what F1 says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import pasted, window_in_frame
from vitmalis.matching import DEFAULT_RULE, Counts, MatchRule, iou_matrix, match_overlaps
from vitmalis.metrics.boundaries import boundary_f1, boundary_tolerance_px
from vitmalis.types import Detections

_LONGEST_PX = 256
"""Longest side at which two masks are compared: larger ones, which have no finer detail, are compared at this size."""

_Object = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A mask and its box."""


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """Numbers of matched, wrongly shown and missed masks, and sums of how well the matched ones agree."""

    counts: Counts = field(default_factory=Counts)
    iou_sum: float = 0.0
    boundary_f1_sum: float = 0.0

    def __add__(self, other: MaskCounts) -> MaskCounts:
        return MaskCounts(
            self.counts + other.counts,
            self.iou_sum + other.iou_sum,
            self.boundary_f1_sum + other.boundary_f1_sum,
        )

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the masks that match; None when none does."""
        return self._mean(self.iou_sum)

    @property
    def mean_boundary_f1(self) -> float | None:
        """Mean boundary F1 of the masks that match; None when none does."""
        return self._mean(self.boundary_f1_sum)

    def _mean(self, of_matched: float) -> float | None:
        return of_matched / self.counts.tp if self.counts.tp else None


def mask_metrics(
    pairs: Iterable[tuple[Detections, Detections]], rule: MatchRule, frame_size: tuple[int, int], of: str
) -> dict[str, float]:
    """Mask F1, mean IoU and mean boundary F1 of pairs of what a frame shows and its reference, by name.

    Args:
        pairs: one for each frame.
        rule: how masks match.
        frame_size: (width, height) of the frames.
        of: what is scored, such as "rendering"; part of the names.
    """
    total = sum((match_masks(shown, reference, frame_size, rule) for shown, reference in pairs), MaskCounts())
    values = {
        f"{of}_mask_f1": total.counts.f1,
        f"{of}_mask_iou": total.mean_iou,
        f"{of}_mask_boundary_f1": total.mean_boundary_f1,
    }
    return {name: value for name, value in values.items() if value is not None}


def match_masks(
    shown: Detections, reference: Detections, frame_size: tuple[int, int], rule: MatchRule = DEFAULT_RULE
) -> MaskCounts:
    """Match the masks of one frame, of (width, height); a box without a mask is filled."""
    shown, reference = shown.above(rule.score_threshold), reference.above(rule.score_threshold)
    iou = mask_iou_matrix(shown, reference)
    matches = match_overlaps(shown, reference, iou, rule)
    rows = np.flatnonzero(matches.found >= 0)
    cols = matches.found[rows]
    agreement = boundary_f1_of_pairs(shown.select(rows), reference.select(cols), frame_size)
    return MaskCounts(matches.counts, float(iou[rows, cols].sum()), float(agreement.sum()))


def mask_iou_matrix(a: Detections, b: Detections) -> NDArray[np.float64]:
    """IoU of masks of one label, (N, M); 0 for those of different labels."""
    iou = np.zeros((len(a), len(b)))
    touching = (iou_matrix(a.boxes_xyxy, b.boxes_xyxy) > 0) & (a.labels[:, None] == b.labels[None])
    objects_a, objects_b = _objects(a), _objects(b)
    for i, j in np.argwhere(touching):
        iou[i, j] = _iou(objects_a[i], objects_b[j])
    return iou


def boundary_f1_of_pairs(a: Detections, b: Detections, frame_size: tuple[int, int]) -> NDArray[np.float64]:
    """Boundary F1 of the mask of each object of `a` and that of `b` in the same row, (N,), in one frame."""
    pairs = zip(_objects(a), _objects(b), strict=True)
    return np.array([_boundary_f1(*pair, frame_size) for pair in pairs], float)


def _objects(detections: Detections) -> list[_Object]:
    return list(zip(detections.masks_or_boxes, detections.boxes_xyxy, strict=True))


def _iou(a: _Object, b: _Object) -> float:
    """IoU of two masks, in pixels of their frame within the union of their boxes."""
    boxes, _ = _compared_boxes(a, b)
    x0, y0 = np.floor(boxes[:, :2].min(axis=0)).astype(int).tolist()
    x1, y1 = np.ceil(boxes[:, 2:].max(axis=0)).astype(int).tolist()
    one, other = (pasted(mask, box, (x0, y0, x1, y1)) for (mask, _), box in zip((a, b), boxes, strict=True))
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def _boundary_f1(a: _Object, b: _Object, frame_size: tuple[int, int]) -> float:
    """Boundary F1 of two masks, in the pixels of their frame that both and one pixel around them take."""
    boxes, scale = _compared_boxes(a, b)
    around = np.concatenate([boxes[:, :2].min(axis=0) - 1, boxes[:, 2:].max(axis=0) + 1])
    width, height = (math.ceil(side * scale) for side in frame_size)
    window = window_in_frame(around, (width, height))
    one, other = (pasted(mask, box, window) for (mask, _), box in zip((a, b), boxes, strict=True))
    return boundary_f1(one, other, boundary_tolerance_px(frame_size) * scale)


def _compared_boxes(a: _Object, b: _Object) -> tuple[NDArray[np.float64], float]:
    """Boxes of two objects, (2, 4), at the scale at which their masks are compared, and this scale: at most 1."""
    boxes = np.stack([a[1], b[1]]).astype(np.float64)
    longest = (boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).max()
    scale = _LONGEST_PX / max(longest, _LONGEST_PX)
    return boxes * scale, scale
