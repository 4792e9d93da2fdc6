"""Calibration of a detector: a shift of its class logits that makes 0.5 the best score threshold.

One threshold serves frames of full size and frames that are sent at half the size, so the shift is made for the
threshold at which the mean F1 over both sizes is highest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.detection_scores import THRESHOLDS, DetectionScores
from vitmalis_jobs.training.detection.validation_set import SetScores

TARGET_SCORE = 0.5
USUAL_CENTRENESS = 0.7
"""Centreness at which the shift is exact."""
MAX_SHIFT = 2.0
"""Largest shift of a logit."""
BOTH_SIZES = "both_sizes"
"""Name of the threshold that the shift is made for."""


@dataclass(frozen=True)
class BestThreshold:
    """The score threshold at which a mean F1 over validation sets is highest.

    Attributes:
        threshold: score, 0..1.
        f1: mean F1 there.
        f1_at_target: mean F1 at `TARGET_SCORE`, where users see it.
    """

    threshold: float
    f1: float
    f1_at_target: float

    def __str__(self) -> str:
        return f"{self.threshold:.2f} (mean F1 {self.f1:.3f}, at {TARGET_SCORE} {self.f1_at_target:.3f})"


def best_threshold(scores: Iterable[DetectionScores]) -> BestThreshold | None:
    """The best threshold over the sets that hold objects; None if none does."""
    curves = [set_scores.f1_curve for set_scores in scores if set_scores.f1_curve]
    if not curves:
        return None
    mean = np.mean(curves, axis=0)
    best, target = int(mean.argmax()), int(np.abs(THRESHOLDS - TARGET_SCORE).argmin())
    return BestThreshold(float(THRESHOLDS[best]), float(mean[best]), float(mean[target]))


def best_thresholds(scores: Collection[SetScores]) -> dict[str, BestThreshold | None]:
    """The best thresholds of frames of full size, of halved ones, and of both, where each size has the same weight."""
    full, half = [of_set.full for of_set in scores], [of_set.half_size for of_set in scores]
    by_size = {"full_size": full, "half_size": half, BOTH_SIZES: [*full, *half]}
    return {name: best_threshold(of_size) for name, of_size in by_size.items()}


def shift_for(threshold: float) -> float:
    """Shift of the class logits with which a score of `threshold` becomes 0.5, at most `MAX_SHIFT`.

    A score is the square root of class probability times centreness; the shift is exact where centreness is
    `USUAL_CENTRENESS` and close around it.
    """
    before, after = (_logit(min(0.98, score**2 / USUAL_CENTRENESS)) for score in (threshold, TARGET_SCORE))
    return float(np.clip(after - before, -MAX_SHIFT, MAX_SHIFT))


def calibrated(model: FcosDetector, threshold: float) -> FcosDetector:
    """A copy of the model with shifted scores, so that `threshold` becomes 0.5; its boxes are the same."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.head.classification_head.cls_logits.bias += shift_for(threshold)
    return moved


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
