"""One-to-one assignment between two lists of boxes, and the rounding that may leave a box without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

RECOGNISED = 100.0
"""Boxes up to this many tolerances apart are paired, so that their error is reported."""

TIE_IOU = 2e-4
"""An overlap this close to a threshold may fall on either side of it by rounding."""


MAX_TIED = 0.01
"""Largest share of a list that ties by rounding can explain."""


class Boxes(NamedTuple):
    """A list of boxes, best first.

    Attributes:
        boxes: (N, 4), xyxy in pixels.
        scores: (N,), probabilities or logits.
        classes: (N,), or None for boxes without classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray | None = None


def pair(
    golden: Boxes,
    ours: Boxes,
    tolerances: Mapping[str, float],
    *,
    nms_iou: float,
    min_score: float = -np.inf,
    score_noise: float = 0.0,
    excused: int = 0,
) -> dict[str, Any]:
    """Pair two lists one to one so that the sum of errors is least, within classes.

    Args:
        golden, ours: the lists.
        tolerances: of `boxes_px` and `scores`, absolute.
        nms_iou: overlap above which non-maximum suppression dropped the box with the lower score.
        min_score: score above which boxes were kept.
        score_noise: what rounding before this stage adds to the tolerance of scores.
        excused: number of unpaired boxes that are accepted whatever the reason.

    Returns:
        Largest errors over the pairs, counts, and whether the comparison `passed`: every error within its tolerance,
        and every unpaired box explained by a tie (`_tied`) or covered by `excused`.
    """
    box_errors = np.abs(golden.boxes[:, None] - ours.boxes[None]).max(axis=2)  # (N, M)
    score_errors = np.abs(golden.scores[:, None] - ours.scores[None])  # (N, M)
    score_tolerance = tolerances["scores"] + score_noise
    cost = np.maximum(box_errors / tolerances["boxes_px"], score_errors / score_tolerance)
    if golden.classes is not None and ours.classes is not None:
        cost[golden.classes[:, None] != ours.classes[None]] = np.inf
    rows, cols = linear_sum_assignment(np.fmin(cost, RECOGNISED))  # NaN counts as unpaired
    paired = cost[rows, cols] < RECOGNISED
    rows, cols = rows[paired], cols[paired]
    only_golden = np.setdiff1d(np.arange(len(golden.boxes)), rows)
    only_ours = np.setdiff1d(np.arange(len(ours.boxes)), cols)
    tied_golden = _tied(golden, only_golden, ours, nms_iou, min_score, score_tolerance)
    tied_ours = _tied(ours, only_ours, golden, nms_iou, min_score, score_tolerance)
    # A box that a tie kept suppresses others in turn, on its side only.
    tied = int((tied_golden | _overlaps(golden, only_golden, ours, only_ours[tied_ours], nms_iou)).sum())
    tied += int((tied_ours | _overlaps(ours, only_ours, golden, only_golden[tied_golden], nms_iou)).sum())
    box_error = float(box_errors[rows, cols].max(initial=0.0))
    score_error = float(score_errors[rows, cols].max(initial=0.0))
    lone = len(only_golden) + len(only_ours)
    return {
        "error_px": box_error,
        "error_score": score_error,
        "tolerance_px": tolerances["boxes_px"],
        "tolerance_score": score_tolerance,
        "pairs": len(rows),
        "scores_above_plain_tolerance": int((score_errors[rows, cols] > tolerances["scores"]).sum()),
        "unpaired_golden": len(only_golden),
        "unpaired_ours": len(only_ours),
        "unpaired_by_ties": tied,
        "passed": box_error <= tolerances["boxes_px"]
        and score_error <= score_tolerance
        and lone - tied <= excused
        and lone - excused <= max(2, MAX_TIED * len(golden.boxes)),
    }


def _tied(mine: Boxes, lone: np.ndarray, other: Boxes, nms_iou: float, min_score: float, noise: float) -> np.ndarray:
    """Whether the other side may lack each of `mine[lone]` by rounding alone: bool (L,).

    It may where the score is at the threshold or at the end of the other list, or where some box of the same class
    overlaps by about the suppression threshold.
    """
    if not len(lone) or not len(other.boxes):
        return np.zeros(len(lone), bool)
    scores = mine.scores[lone]
    at_end = (scores - min_score < 2 * noise) | (scores - other.scores.min() < 2 * noise)
    overlap = _overlap(mine, lone, other, np.arange(len(other.boxes)))
    return np.logical_or(at_end, np.any(np.abs(overlap - nms_iou) < TIE_IOU, axis=1))


def _overlaps(mine: Boxes, lone: np.ndarray, other: Boxes, among: np.ndarray, nms_iou: float) -> np.ndarray:
    """Whether some of `other[among]` suppresses each of `mine[lone]`: bool (L,)."""
    return np.any(_overlap(mine, lone, other, among) > nms_iou, axis=1)


def _overlap(mine: Boxes, lone: np.ndarray, other: Boxes, among: np.ndarray) -> np.ndarray:
    """Intersection over union of `mine[lone]` and `other[among]`, (L, A); 0 between classes."""
    overlap = box_iou(torch.from_numpy(mine.boxes[lone]), torch.from_numpy(other.boxes[among])).numpy()
    if mine.classes is not None and other.classes is not None:
        overlap[mine.classes[lone][:, None] != other.classes[among][None]] = 0
    return overlap
