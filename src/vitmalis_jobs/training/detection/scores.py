"""Scores of a detector on held-out frames: F1 over score thresholds, and AP50 through torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.detection import MeanAveragePrecision

from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.training.detection.labels import CLASSES, IGNORE, Targets
from vitmalis_jobs.training.detection.temporal_voting import iou_matrix

IOU = 0.5
LOWEST_SCORE = 0.05
THRESHOLDS = np.arange(0.1, 0.9, 0.01)


@dataclass(frozen=True)
class Scores:
    """Of one held-out set.

    Attributes:
        f1, precision, recall: at score 0.5, IoU 0.5, same class; what falls on an ignored box does not count.
        ap50: average precision at IoU 0.5, mean over the classes that occur; ignored boxes are crowds.
        best_f1, best_score: the best F1 over score thresholds, and the threshold.
        recall_by_class: recall at score 0.5 of each class that occurs.
        f1_curve: F1 at each of `THRESHOLDS`.
        frames, objects: how much was looked at.
    """

    f1: float
    precision: float
    recall: float
    ap50: float
    best_f1: float
    best_score: float
    recall_by_class: dict[int, float]
    f1_curve: tuple[float, ...]
    frames: int
    objects: int


def evaluate(detect: Callable[[RgbImage], Detections], frames: Sequence[tuple[RgbImage, Targets]]) -> Scores:
    """Run a detector over frames and score it.

    Args:
        detect: image to detections; scores down to `LOWEST_SCORE` are used.
        frames: images with their targets.
    """
    return score([detect(image) for image, _ in frames], [targets for _, targets in frames])


def score(found: Sequence[Detections], truth: Sequence[Targets]) -> Scores:
    """Score detections, frame by frame, against targets."""
    hits, scores, found_labels = [], [], []
    objects = dict.fromkeys(CLASSES, 0)
    precision_meter = MeanAveragePrecision(iou_type="bbox", iou_thresholds=[IOU])
    for detections, targets in zip(found, truth, strict=True):
        kept = detections.above(LOWEST_SCORE)
        kept = kept.select(np.argsort(-kept.scores, kind="stable"))
        hit, counted = match(kept, targets)
        hits.append(hit[counted])
        scores.append(kept.scores[counted])
        found_labels.append(kept.labels[counted])
        for label in targets.known().labels:
            objects[int(label)] += 1
        precision_meter.update(*_for_torchmetrics(kept, targets))
    total = sum(objects.values())
    hit_all, score_all, label_all = np.concatenate(hits), np.concatenate(scores), np.concatenate(found_labels)
    curve = np.array([f1(int(hit_all[score_all >= t].sum()), int((score_all >= t).sum()), total) for t in THRESHOLDS])
    sure = score_all >= 0.5
    true = int(hit_all[sure].sum())
    return Scores(
        f1=f1(true, int(sure.sum()), total),
        precision=true / max(int(sure.sum()), 1),
        recall=true / max(total, 1),
        ap50=float(precision_meter.compute()["map_50"]) if total else float("nan"),
        best_f1=float(curve.max()),
        best_score=float(THRESHOLDS[curve.argmax()]),
        recall_by_class={
            label: float(hit_all[sure & (label_all == label)].sum() / count)
            for label, count in objects.items()
            if count
        },
        f1_curve=tuple(curve.tolist()),
        frames=len(truth),
        objects=total,
    )


def f1(true_positives: int, found: int, wanted: int) -> float:
    """F1 of counts; 1 when nothing was wanted and nothing found."""
    return 2 * true_positives / (found + wanted) if found + wanted else 1.0


def match(found: Detections, truth: Targets) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match detections, best score first, each to the free object of its class that it overlaps most.

    Returns:
        (N,) bool true positive; (N,) bool False for detections that lie on an ignored box and so do not count.
    """
    hit = np.zeros(len(found), bool)
    counted = np.ones(len(found), bool)
    known = truth.known()
    ignored = truth.boxes_xyxy[truth.labels == IGNORE]
    free = np.ones(len(known), bool)
    overlap = iou_matrix(found.boxes_xyxy, known.boxes_xyxy)
    lost = _intersections(found.boxes_xyxy, ignored)
    area = np.maximum((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(1), 1e-6)
    for row in range(len(found)):
        usable = np.where(free & (known.labels == found.labels[row]), overlap[row], 0)
        if len(usable) and usable.max() >= IOU:
            hit[row] = True
            free[usable.argmax()] = False
        elif (lost[row] > 0.5 * area[row]).any():
            counted[row] = False
    return hit, counted


def _intersections(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (N, M) that boxes (N, 4) and (M, 4) share."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _for_torchmetrics(found: Detections, truth: Targets) -> tuple[list[dict], list[dict]]:
    # An ignored box may be of any class: COCO's crowds are of one, so it becomes a crowd of each.
    known, ignored = truth.known(), truth.boxes_xyxy[truth.labels == IGNORE]
    boxes = np.concatenate([known.boxes_xyxy] + [ignored] * len(CLASSES))
    labels = np.concatenate([known.labels, np.repeat(np.array(CLASSES, np.int64), len(ignored))])
    crowd = np.concatenate([np.zeros(len(known), np.int64), np.ones(len(ignored) * len(CLASSES), np.int64)])
    prediction = {
        "boxes": torch.from_numpy(found.boxes_xyxy),
        "scores": torch.from_numpy(found.scores),
        "labels": torch.from_numpy(found.labels),
    }
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "iscrowd": torch.from_numpy(crowd)}
    return [prediction], [target]
