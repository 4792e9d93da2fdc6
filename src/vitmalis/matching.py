"""Matching of shown boxes with reference boxes, or of tracked boxes with the next result, and F1.

The paper reports F1 without its matching rule. Ours: same label, IoU and score at least 0.5 on both sides, greedy by
score; counts are summed over all frames before F1 is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.types import SCORE_THRESHOLD, Detections


@dataclass(frozen=True, slots=True)
class MatchRule:
    """Rule by which a shown box matches a reference box; both thresholds are inclusive.

    Attributes:
        iou_threshold: smallest intersection over union, 0..1.
        score_threshold: boxes below it are ignored, on both sides.
    """

    iou_threshold: float = 0.5
    score_threshold: float = SCORE_THRESHOLD


DEFAULT_RULE = MatchRule()


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of matched (tp), wrongly shown (fp) and missed (fn) boxes; sum them before computing a ratio."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float | None:
        """Share of shown boxes that match; None when none is shown."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of reference boxes that are matched; None when there is none."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None when there is no reference box, so that nothing can be found."""
        return self.f1_or_one if self.tp + self.fn else None

    @property
    def f1_or_one(self) -> float:
        """F1 where showing nothing when there is nothing to find is right, and counts 1.

        For a frame or a few of them, where policies and estimators compare choices; a clip's F1 is `f1`.
        """
        boxes = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / boxes if boxes else 1.0


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the intersection over union of boxes (N, 4) and (M, 4), as (N, M); boxes without area overlap nothing."""
    a64, b64 = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(a64[..., 2:], b64[..., 2:]) - np.maximum(a64[..., :2], b64[..., :2])
    intersection = np.prod(np.clip(sides, 0, None), axis=-1)
    union = _area(a64) + _area(b64) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The boxes of one frame that count, and which shown box found which reference box.

    Attributes:
        shown, reference: boxes with at least the rule's score.
        found: int64 (len(shown),), index of the reference box that each shown box found; -1 for a wrong one.
    """

    shown: Detections
    reference: Detections
    found: NDArray[np.int64]

    @property
    def counts(self) -> Counts:
        """Numbers of matched, wrongly shown and missed boxes."""
        matched = int((self.found >= 0).sum())
        return Counts(matched, len(self.shown) - matched, len(self.reference) - matched)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """bool (len(reference),), True for reference boxes that no shown box found."""
        missed = np.ones(len(self.reference), bool)
        missed[self.found[self.found >= 0]] = False
        return missed


def match_boxes(shown: Detections, reference: Detections, rule: MatchRule = DEFAULT_RULE) -> Matches:
    """Match the boxes of one frame: in order of falling score, each takes the free reference box it overlaps most."""
    shown, reference = shown.above(rule.score_threshold), reference.above(rule.score_threshold)
    return match_overlaps(shown, reference, iou_matrix(shown.boxes_xyxy, reference.boxes_xyxy), rule)


def match_overlaps(
    shown: Detections, reference: Detections, overlap: NDArray[np.float64], rule: MatchRule = DEFAULT_RULE
) -> Matches:
    """Match objects by their overlap, (len(shown), len(reference)), as `match_boxes` does; all scores count."""
    overlap = overlap.copy()
    overlap[shown.labels[:, None] != reference.labels[None]] = -1.0
    found = np.full(len(shown), -1)
    for i in np.argsort(-shown.scores, kind="stable") if len(reference) else ():
        best = int(np.argmax(overlap[i]))
        if overlap[i, best] >= rule.iou_threshold:
            overlap[:, best] = -1.0
            found[i] = best
    return Matches(shown, reference, found)


def match(shown: Detections, reference: Detections, rule: MatchRule = DEFAULT_RULE) -> Counts:
    """Count the matched, wrongly shown and missed boxes of one frame; see `match_boxes`."""
    return match_boxes(shown, reference, rule).counts


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1)
