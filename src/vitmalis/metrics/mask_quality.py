"""Quality of masks: F1 and mean IoU of the masks shown, or of those in results, by the pixels that they cover.

Masks match as boxes do (`vitmalis.matching`), by the IoU of their pixels instead of that of boxes. The mean IoU is that
of the pairs that match; how many there are is what F1 says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import pasted
from vitmalis.matching import DEFAULT_RULE, Counts, Matches, MatchRule, iou_matrix, match_overlaps
from vitmalis.types import Detections

_LONGEST_PX = 256
"""Longest side at which two masks are compared: larger ones, which have no finer detail, are compared at this size."""


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """Numbers of matched, wrongly shown and missed masks, and the sum of the matched ones' IoU."""

    counts: Counts = field(default_factory=Counts)
    iou_sum: float = 0.0

    def __add__(self, other: MaskCounts) -> MaskCounts:
        return MaskCounts(self.counts + other.counts, self.iou_sum + other.iou_sum)

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the masks that match; None when none does."""
        return self.iou_sum / self.counts.tp if self.counts.tp else None


def match_masks(shown: Detections, reference: Detections, rule: MatchRule = DEFAULT_RULE) -> MaskCounts:
    """Match the masks of one frame; a box without a mask is filled."""
    shown, reference = shown.above(rule.score_threshold), reference.above(rule.score_threshold)
    overlap = mask_iou_matrix(shown, reference)
    matches = match_overlaps(shown, reference, overlap, rule)
    return MaskCounts(matches.counts, _matched_sum(overlap, matches))


def mask_metrics(pairs: Iterable[tuple[Detections, Detections]], rule: MatchRule, of: str) -> dict[str, float]:
    """Mask F1 and mean mask IoU of pairs of what a frame shows and its reference, by name.

    Args:
        pairs: one for each frame.
        rule: how masks match.
        of: what is scored, such as "rendering"; part of the names.
    """
    total = sum((match_masks(shown, reference, rule) for shown, reference in pairs), MaskCounts())
    values = {f"{of}_mask_f1": total.counts.f1, f"{of}_mask_iou": total.mean_iou}
    return {name: value for name, value in values.items() if value is not None}


def mask_iou_matrix(a: Detections, b: Detections) -> NDArray[np.float64]:
    """IoU of masks of one label, (N, M); 0 for those of different labels."""
    iou = np.zeros((len(a), len(b)))
    touching = (iou_matrix(a.boxes_xyxy, b.boxes_xyxy) > 0) & (a.labels[:, None] == b.labels[None])
    masks_a, masks_b = a.masks_or_boxes, b.masks_or_boxes
    for i, j in np.argwhere(touching):
        iou[i, j] = _iou(masks_a[i], a.boxes_xyxy[i], masks_b[j], b.boxes_xyxy[j])
    return iou


def _matched_sum(overlap: NDArray[np.float64], matches: Matches) -> float:
    rows = np.flatnonzero(matches.found >= 0)
    return float(overlap[rows, matches.found[rows]].sum())


def _iou(
    mask_a: NDArray[np.uint8], box_a: NDArray[np.float32], mask_b: NDArray[np.uint8], box_b: NDArray[np.float32]
) -> float:
    """IoU of two masks, in pixels of their frame within the union of their boxes."""
    boxes = np.stack([box_a, box_b]).astype(np.float64)
    first, last = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    boxes *= min(1.0, _LONGEST_PX / (last - first).max())
    x0, y0 = np.floor(boxes[:, :2].min(axis=0)).astype(int).tolist()
    x1, y1 = np.ceil(boxes[:, 2:].max(axis=0)).astype(int).tolist()
    one, other = (pasted(mask, box, (x0, y0, x1, y1)) for mask, box in zip((mask_a, mask_b), boxes, strict=True))
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0
