"""Scores of a detector on a validation set: F1 over score thresholds, and AP50 through torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.detection import MeanAveragePrecision

from vitmalis.matching import Counts, iou_matrix
from vitmalis.types import Detections
from vitmalis_jobs.training.detection.labels import CLASSES, IGNORE, Targets

IOU = 0.5
SHOWN_SCORE = 0.5
"""Score from which on a detection is shown to a user."""
LOWEST_SCORE = 0.05
"""Detections with a lower score are dropped."""
THRESHOLDS = np.arange(0.1, 0.9, 0.01)
"""Score thresholds of the F1 curve."""


@dataclass(frozen=True)
class DetectionScores:
    """Scores of a detector on one validation set; None where there is no object, or for precision no detection.

    Attributes:
        f1, precision, recall: at score 0.5, IoU 0.5, same class; detections on an ignored box do not count.
        ap50: average precision at IoU 0.5, mean over the classes that occur; ignored boxes are crowds.
        best_f1, best_score: the best F1 over score thresholds, and the threshold.
        recall_by_class: recall at score 0.5 of each class that occurs.
        f1_curve: F1 at each of `THRESHOLDS`; empty without an object.
        frames, objects: size of the validation set.
    """

    f1: float | None
    precision: float | None
    recall: float | None
    ap50: float | None
    best_f1: float | None
    best_score: float | None
    recall_by_class: dict[int, float]
    f1_curve: tuple[float, ...]
    frames: int
    objects: int


def score_line(scores: DetectionScores) -> str:
    """Format scores as one line of a log."""
    return (
        f"F1 {shown(scores.f1)} (P {shown(scores.precision)} R {shown(scores.recall)})  AP50 {shown(scores.ap50)}  "
        f"best F1 {shown(scores.best_f1)} at {shown(scores.best_score, 2)}  "
        f"{scores.objects} objects in {scores.frames} frames"
    )


def shown(value: float | None, digits: int = 3) -> str:
    """A number as text, `-` where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def score(found: Sequence[Detections], truth: Sequence[Targets]) -> DetectionScores:
    """Score detections, frame by frame, against targets."""
    hits, scores, labels = [], [], []
    objects = dict.fromkeys(CLASSES, 0)
    average_precision = MeanAveragePrecision(iou_type="bbox", iou_thresholds=[IOU])
    for detections, targets in zip(found, truth, strict=True):
        kept = detections.above(LOWEST_SCORE)
        kept = kept.select(np.argsort(-kept.scores, kind="stable"))
        hit, counted = match_to_targets(kept, targets)
        hits.append(hit[counted])
        scores.append(kept.scores[counted])
        labels.append(kept.labels[counted])
        for label in targets.objects().labels:
            objects[int(label)] += 1
        average_precision.update(*_for_torchmetrics(kept, targets))
    ap50 = float(average_precision.compute()["map_50"]) if sum(objects.values()) else None
    pooled = np.concatenate(hits), np.concatenate(scores), np.concatenate(labels)
    return _pooled_scores(*pooled, objects, frames=len(truth), ap50=ap50)


def _pooled_scores(
    hits: NDArray[np.bool_],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    objects: dict[int, int],
    *,
    frames: int,
    ap50: float | None,
) -> DetectionScores:
    """Scores of the detections (N,) of all frames together; `objects` has the number of objects of each class."""
    total = sum(objects.values())
    curve = [value for t in THRESHOLDS if (value := _counts(hits[scores >= t], total).f1) is not None]
    kept = scores >= SHOWN_SCORE
    counts = _counts(hits[kept], total)
    return DetectionScores(
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        ap50=ap50,
        best_f1=max(curve, default=None),
        best_score=float(THRESHOLDS[np.argmax(curve)]) if curve else None,
        recall_by_class={
            label: float(hits[kept & (labels == label)].sum() / count) for label, count in objects.items() if count
        },
        f1_curve=tuple(curve),
        frames=frames,
        objects=total,
    )


def _counts(hits: NDArray[np.bool_], objects: int) -> Counts:
    """Counts of detections, of which some hit one of so many objects."""
    found = int(hits.sum())
    return Counts(found, len(hits) - found, objects - found)


def match_to_targets(found: Detections, truth: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match detections, by falling score, each to the free object of its class that it overlaps most.

    Returns:
        (N,) bool, true positive; (N,) bool, False for detections that do not count as they lie on an ignored box.
    """
    hit = np.zeros(len(found), bool)
    counted = np.ones(len(found), bool)
    objects = truth.objects()
    ignored = truth.boxes_xyxy[truth.labels == IGNORE]
    free = np.ones(len(objects), bool)
    overlap = iou_matrix(found.boxes_xyxy, objects.boxes_xyxy)
    covered = _intersections(found.boxes_xyxy, ignored)
    area = np.maximum((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(1), 1e-6)
    for row in range(len(found)):
        candidates = np.where(free & (objects.labels == found.labels[row]), overlap[row], 0)
        if len(candidates) and candidates.max() >= IOU:
            hit[row] = True
            free[candidates.argmax()] = False
        elif (covered[row] > 0.5 * area[row]).any():
            counted[row] = False
    return hit, counted


def _intersections(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (N, M) of the intersections of boxes (N, 4) and (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _for_torchmetrics(found: Detections, truth: Targets) -> tuple[list[dict], list[dict]]:
    """Detections and targets in the form of `MeanAveragePrecision.update`."""
    # An ignored box is of no class but a COCO crowd is of one, so it becomes a crowd of each class.
    objects, ignored = truth.objects(), truth.boxes_xyxy[truth.labels == IGNORE]
    boxes = np.concatenate([objects.boxes_xyxy] + [ignored] * len(CLASSES))
    labels = np.concatenate([objects.labels, np.repeat(np.array(CLASSES, np.int64), len(ignored))])
    crowd = np.concatenate([np.zeros(len(objects), np.int64), np.ones(len(ignored) * len(CLASSES), np.int64)])
    prediction = {
        "boxes": torch.from_numpy(found.boxes_xyxy),
        "scores": torch.from_numpy(found.scores),
        "labels": torch.from_numpy(found.labels),
    }
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "iscrowd": torch.from_numpy(crowd)}
    return [prediction], [target]
