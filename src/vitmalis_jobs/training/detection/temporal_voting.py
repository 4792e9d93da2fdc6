"""Temporal voting on a teacher's pseudo-labels: neighbouring frames correct what the teacher was unsure of.

The teacher sees each frame alone, so its boxes flicker. Consecutive frames of a video show the same objects: a box that
the neighbours have too is confirmed, one that none of them has is doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitmalis.matching import iou_matrix
from vitmalis.types import Detections
from vitmalis_jobs.training.detection.labels import POSITIVE_SCORE, UNSURE_SCORE, VEHICLES

NEIGHBOURS = 2
"""Frames on each side that vote."""
MATCH_IOU = 0.5


def vote_over_time(frames: Sequence[Detections]) -> list[Detections]:
    """Correct the detections of each frame by those of up to two frames on each side.

    - An unsure box that at least two neighbours are sure of becomes sure, one that none has becomes unsure.
    - A vehicle takes the class that it has most often, weighted by score.
    - A gap of one frame between two sure boxes of an object is filled with their mean.

    Args:
        frames: detections of consecutive distinct frames, any class.
    """
    return [_fill_gaps(frames, t, _vote(frames, t)) for t in range(len(frames))]


def _vote(frames: Sequence[Detections], t: int) -> Detections:
    own = frames[t]
    neighbours = [frames[u] for u in range(max(0, t - NEIGHBOURS), min(len(frames), t + NEIGHBOURS + 1)) if u != t]
    matches = [_best_match(own, other) for other in neighbours]
    scores, labels = own.scores.copy(), own.labels.copy()
    for row in range(len(own)):
        matched = [(other, match[row]) for other, match in zip(neighbours, matches, strict=True) if match[row] >= 0]
        sure = sum(other.scores[i] >= POSITIVE_SCORE for other, i in matched)
        if scores[row] < POSITIVE_SCORE and sure >= 2:
            scores[row] = POSITIVE_SCORE
        elif not matched and neighbours:
            scores[row] = min(scores[row], UNSURE_SCORE)
        if labels[row] in VEHICLES:
            labels[row] = _majority(own, row, matched)
    return replace(own, scores=scores, labels=labels)


def _majority(own: Detections, row: int, matched: list[tuple[Detections, np.int64]]) -> int:
    """Class with the largest sum of scores over a box and its matches in other frames."""
    votes = {int(own.labels[row]): float(own.scores[row])}
    for other, i in matched:
        votes[int(other.labels[i])] = votes.get(int(other.labels[i]), 0.0) + float(other.scores[i])
    return max(votes, key=lambda label: votes[label])


def _fill_gaps(frames: Sequence[Detections], t: int, own: Detections) -> Detections:
    if not 0 < t < len(frames) - 1:
        return own
    before, after = frames[t - 1].above(POSITIVE_SCORE), frames[t + 1].above(POSITIVE_SCORE)
    matches = _best_match(before, after)
    rows = np.flatnonzero(matches >= 0)
    means = (before.boxes_xyxy[rows] + after.boxes_xyxy[matches[rows]]) / 2
    filled = Detections.of(means, np.full(len(rows), POSITIVE_SCORE), before.labels[rows])
    return own.with_more(filled.select(_best_match(filled, own) < 0))


def _best_match(a: Detections, b: Detections) -> NDArray[np.int64]:
    """For each box of `a` the box of `b` that it overlaps most, of its class or both vehicles; -1 for none."""
    if not len(a) or not len(b):
        return np.full(len(a), -1)
    overlap = iou_matrix(a.boxes_xyxy, b.boxes_xyxy)
    overlap[_merged_labels(a)[:, None] != _merged_labels(b)[None]] = 0
    best = overlap.argmax(1)
    return np.where(overlap[np.arange(len(a)), best] >= MATCH_IOU, best, -1)


def _merged_labels(detections: Detections) -> NDArray[np.int64]:
    """Labels (N,) in which all vehicles are one class."""
    return np.where(np.isin(detections.labels, VEHICLES), VEHICLES[0], detections.labels)
