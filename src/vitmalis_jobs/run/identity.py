"""Identities of the boxes on the screen: IDF1, identity switches and MOTA, as for multi-object trackers.

Neither the detector nor the references name objects, and a client replaces all boxes with each result. So identities
are those that a viewer would see: a box is the same object as the box of its class that it overlaps most in the frames
before, on the screen and in the references alike. A box that jumps away from its object becomes another one, which
counts as a switch. The metrics are those of TrackEval (Ristani et al. 2016; Bernardin and Stiefelhagen 2008) on these
identities. They are computed here, as TrackEval's package installs a second OpenCV over the one without a display, and
the box distances of motmetrics (1.4.0) do not run with NumPy 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vitmalis.matching import DEFAULT_RULE, MatchRule, iou_matrix
from vitmalis.types import Detections

LINK_IOU = 0.5
"""Least overlap of two boxes of one object in successive frames."""
MEMORY_FRAMES = 5
"""Frames for which an object that is not seen keeps its identity."""
_KEEP = 1000.0
"""Weight of the object that a box was matched with before, above any overlap."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def identity_metrics(
    shown: Sequence[Detections], references: Sequence[Detections], rule: MatchRule = DEFAULT_RULE
) -> dict[str, float]:
    """Compute `idf1`, `id_switches` and `mota` of the boxes shown on each frame; nothing without a reference box."""
    shown, references = ([boxes.above(rule.score_threshold) for boxes in frames] for frames in (shown, references))
    objects, boxes = sum(map(len, references)), sum(map(len, shown))
    if not objects:
        return {}
    tracks, identities = linked(shown), linked(references)
    overlaps = [_overlap(reference, found) for reference, found in zip(references, shown, strict=True)]
    kept = _identity_matches(identities, tracks, overlaps, rule.iou_threshold)
    matched, switches = _clear(identities, tracks, overlaps, rule.iou_threshold)
    return {
        "idf1": 2 * kept / (objects + boxes),
        "id_switches": float(switches),
        "mota": 1 - (objects - matched + boxes - matched + switches) / objects,
    }


def linked(frames: Sequence[Detections]) -> list[IntArray]:
    """Identity of each box of each frame, from 0, by the overlap with boxes of the frames before."""
    ids, latest, seen, found = np.empty(0, np.int64), Detections.empty(), np.empty(0, np.int64), []
    known = 0
    for index, boxes in enumerate(frames):
        alive = index - seen <= MEMORY_FRAMES
        ids, latest, seen = ids[alive], latest.select(alive), seen[alive]
        before, now = _assigned(_overlap(latest, boxes), LINK_IOU)
        own = np.full(len(boxes), -1, np.int64)
        own[now] = ids[before]
        new = own < 0
        own[new] = known + np.arange(new.sum())
        known += int(new.sum())
        unseen = np.ones(len(ids), bool)
        unseen[before] = False
        ids = np.concatenate([ids[unseen], own])
        seen = np.concatenate([seen[unseen], np.full(len(boxes), index)])
        latest = latest.select(unseen).with_more(boxes)
        found.append(own)
    return found


def _identity_matches(
    identities: Sequence[IntArray], tracks: Sequence[IntArray], overlaps: Sequence[FloatArray], threshold: float
) -> int:
    """IDTP: matched boxes if each object may have one track only, for the best such choice over the whole clip."""
    together = np.zeros([1 + max((ids.max(initial=-1) for ids in side), default=-1) for side in (identities, tracks)])
    for objects, boxes, overlap in zip(identities, tracks, overlaps, strict=True):
        rows, cols = np.nonzero(overlap >= threshold)
        np.add.at(together, (objects[rows], boxes[cols]), 1)
    return int(together[linear_sum_assignment(together, maximize=True)].sum())


def _clear(
    identities: Sequence[IntArray], tracks: Sequence[IntArray], overlaps: Sequence[FloatArray], threshold: float
) -> tuple[int, int]:
    """Boxes that match an object frame by frame, and how often an object's track is another one than before."""
    matched, switches, last = 0, 0, dict[int, int]()
    before = dict[int, int]()
    for objects, boxes, overlap in zip(identities, tracks, overlaps, strict=True):
        keeps = np.array([[before.get(int(o)) == int(b) for b in boxes] for o in objects], bool)
        weights = overlap + _KEEP * keeps.reshape(overlap.shape) * (overlap >= threshold)
        rows, cols = _assigned(weights, threshold)
        before = {int(objects[row]): int(boxes[col]) for row, col in zip(rows, cols, strict=True)}
        matched += len(before)
        switches += sum(last.get(name, track) != track for name, track in before.items())
        last |= before
    return matched, switches


def _assigned(weights: FloatArray, least: float) -> tuple[IntArray, IntArray]:
    """Rows and columns of the best assignment whose every weight is at least `least`."""
    rows, cols = linear_sum_assignment(np.where(weights >= least, weights, 0.0), maximize=True)
    enough = weights[rows, cols] >= least
    return rows[enough], cols[enough]


def _overlap(a: Detections, b: Detections) -> FloatArray:
    """Overlap of boxes of one class (N, M); 0 for those of different classes."""
    return iou_matrix(a.boxes_xyxy, b.boxes_xyxy) * (a.labels[:, None] == b.labels[None])
