"""Make a teacher's labels steadier over time: neighbouring frames vote on what it was unsure of.

The teacher looks at each frame alone, so its boxes flicker. Frames a thirtieth of a second apart show the same objects:
what most neighbours are sure of is there, what no neighbour has seen is doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.types import Detections
from vitmalis_jobs.training.detection.labels import POSITIVE_SCORE, UNSURE_SCORE

REACH = 2
SAME_IOU = 0.5
VEHICLES = (2, 5, 6, 7)


def steady(frames: Sequence[Detections]) -> list[Detections]:
    """Let up to two frames on each side vote.

    - An unsure box that at least two neighbours are sure of becomes sure, one seen by none becomes unsure.
    - Vehicles take the class that they have most often, weighted by score.
    - A gap of one frame between two sure boxes of an object is filled with their mean.

    Args:
        frames: detections of consecutive distinct frames, any class.
    """
    return [_filled(frames, t, _voted(frames, t)) for t in range(len(frames))]


def _voted(frames: Sequence[Detections], t: int) -> Detections:
    own = frames[t]
    neighbours = [frames[u] for u in range(max(0, t - REACH), min(len(frames), t + REACH + 1)) if u != t]
    found = [_best_match(own, other) for other in neighbours]
    scores, labels = own.scores.copy(), own.labels.copy()
    for row in range(len(own)):
        matched = [(other, match[row]) for other, match in zip(neighbours, found, strict=True) if match[row] >= 0]
        sure = sum(other.scores[i] >= POSITIVE_SCORE for other, i in matched)
        if scores[row] < POSITIVE_SCORE and sure >= 2:
            scores[row] = POSITIVE_SCORE
        elif not matched and neighbours:
            scores[row] = min(scores[row], UNSURE_SCORE)
        if labels[row] in VEHICLES:
            votes = {int(labels[row]): float(own.scores[row])}
            for other, i in matched:
                votes[int(other.labels[i])] = votes.get(int(other.labels[i]), 0.0) + float(other.scores[i])
            labels[row] = max(votes, key=lambda label: votes[label])
    return Detections(own.boxes_xyxy, scores, labels)


def _filled(frames: Sequence[Detections], t: int, own: Detections) -> Detections:
    if not 0 < t < len(frames) - 1:
        return own
    before, after = frames[t - 1].above(POSITIVE_SCORE), frames[t + 1].above(POSITIVE_SCORE)
    follows = _best_match(before, after)
    rows = np.flatnonzero(follows >= 0)
    means = (before.boxes_xyxy[rows] + after.boxes_xyxy[follows[rows]]) / 2
    extra = Detections.of(means, np.full(len(rows), POSITIVE_SCORE), before.labels[rows])
    new = extra.select(_best_match(extra, own) < 0)
    return Detections(
        np.concatenate([own.boxes_xyxy, new.boxes_xyxy]),
        np.concatenate([own.scores, new.scores]),
        np.concatenate([own.labels, new.labels]),
    )


def _best_match(a: Detections, b: Detections) -> NDArray[np.int64]:
    """For each box of `a` the box of `b` that it overlaps most, of its class or both vehicles; -1 for none."""
    if not len(a) or not len(b):
        return np.full(len(a), -1)
    overlap = iou_matrix(a.boxes_xyxy, b.boxes_xyxy)
    overlap[_kinds(a)[:, None] != _kinds(b)[None]] = 0
    best = overlap.argmax(1)
    return np.where(overlap[np.arange(len(a)), best] >= SAME_IOU, best, -1)


def _kinds(detections: Detections) -> NDArray[np.int64]:
    return np.where(np.isin(detections.labels, VEHICLES), VEHICLES[0], detections.labels)


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes (N, 4) and (M, 4): (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return inter / np.maximum(area_a[:, None] + area_b[None] - inter, 1e-6)
