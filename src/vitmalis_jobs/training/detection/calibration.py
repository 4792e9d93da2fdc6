"""Calibration of a detector: a shift of its class logits that makes 0.5 the best score threshold."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
import torch

from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.detection_scores import THRESHOLDS, DetectionScores

TARGET_SCORE = 0.5
USUAL_CENTRENESS = 0.7
"""Centreness at which the shift is exact."""
MAX_SHIFT = 2.0
"""Largest shift of a logit."""


def best_threshold(scores: Iterable[DetectionScores]) -> float:
    """Score threshold at which the mean F1 over the sets that hold objects is highest."""
    mean = np.mean([set_scores.f1_curve for set_scores in scores if set_scores.f1_curve], axis=0)
    return float(THRESHOLDS[int(mean.argmax())])


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
