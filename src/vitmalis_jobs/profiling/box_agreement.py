"""Agreement of two detectors on the same frames: F1, differences of matched boxes, and boxes that only one shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.matching import DEFAULT_RULE, Counts, MatchRule, match, match_boxes
from vitmalis.types import Detections

BARS = {"f1": 0.99, "box_px_max": 0.5, "score_max": 0.02}
"""The smallest F1, and the largest differences of an edge in pixels and of a score, with which two detectors agree."""


def _none() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How the boxes of a detector agree with those of a reference; the sum of two is that of their frames together.

    Attributes:
        counts: boxes that match, boxes that appear (fp) and boxes of the reference that vanish (fn).
        box_px: largest difference of an edge of each matched box, pixels.
        scores: difference of the score of each matched box.
        crossing: how many of those that appear or vanish the other detector has, with a score below the threshold.
        margins: how far the score of each box that appears or vanishes is above the threshold.
    """

    counts: Counts = field(default_factory=Counts)
    box_px: NDArray[np.float64] = field(default_factory=_none)
    scores: NDArray[np.float64] = field(default_factory=_none)
    crossing: int = 0
    margins: NDArray[np.float64] = field(default_factory=_none)

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.counts + other.counts,
            np.concatenate([self.box_px, other.box_px]),
            np.concatenate([self.scores, other.scores]),
            self.crossing + other.crossing,
            np.concatenate([self.margins, other.margins]),
        )

    def numbers(self) -> dict[str, Any]:
        """Columns of a result; quantiles of no box are None."""
        f1 = self.counts.f1
        return {
            "f1": None if f1 is None else round(f1, 4),
            "boxes": self.counts.tp + self.counts.fn,
            "appeared": self.counts.fp,
            "vanished": self.counts.fn,
            "crossing": self.crossing,
            "margin_max": _quantile(self.margins, 1.0),
            "box_px_p95": _quantile(self.box_px, 0.95),
            "box_px_max": _quantile(self.box_px, 1.0),
            "boxes_beyond_bar": int((self.box_px > BARS["box_px_max"]).sum()),
            "score_p95": _quantile(self.scores, 0.95),
            "score_max": _quantile(self.scores, 1.0),
        }


def agreement(found: Detections, reference: Detections, rule: MatchRule = DEFAULT_RULE) -> Agreement:
    """Compare the boxes of one frame with those of the reference, all scores included."""
    matches = match_boxes(found, reference, rule)
    matched = matches.found >= 0
    ours, theirs = matches.shown.select(matched), matches.reference.select(matches.found[matched])
    appeared, vanished = matches.shown.select(~matched), matches.reference.select(matches.missed)
    return Agreement(
        matches.counts,
        np.abs(ours.boxes_xyxy.astype(np.float64) - theirs.boxes_xyxy).max(axis=1, initial=0.0),
        np.abs(ours.scores.astype(np.float64) - theirs.scores),
        _found_below(appeared, reference, rule) + _found_below(vanished, found, rule),
        np.concatenate([appeared.scores, vanished.scores]).astype(np.float64) - rule.score_threshold,
    )


def within_bars(numbers: dict[str, Any]) -> bool:
    """Whether the columns of an agreement keep to `BARS`; a number that is None does."""
    f1, differences = numbers["f1"], [(numbers[key], BARS[key]) for key in ("box_px_max", "score_max")]
    return (f1 is None or f1 >= BARS["f1"]) and all(value is None or value <= bar for value, bar in differences)


def _found_below(boxes: Detections, others: Detections, rule: MatchRule) -> int:
    """How many of the boxes are among the others with a score below the threshold."""
    below = others.select(others.scores < rule.score_threshold)
    return match(boxes, below, MatchRule(rule.iou_threshold, 0.0)).tp


def _quantile(values: NDArray[np.float64], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 4) if len(values) else None
