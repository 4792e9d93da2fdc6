"""Make 0.5 the score at which a detector does best, by moving the one number that sets how sure it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
import torch

from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.scores import THRESHOLDS, Scores

TARGET_SCORE = 0.5
USUAL_CENTRENESS = 0.7
MAX_SHIFT = 2.0


def best_threshold(scores: Iterable[Scores]) -> float:
    """Score threshold at which the mean F1 over the sets is highest."""
    mean = np.mean([of_set.f1_curve for of_set in scores], axis=0)
    return float(THRESHOLDS[int(mean.argmax())])


def shift_for(threshold: float) -> float:
    """How far class logits have to move so that a score of `threshold` becomes 0.5.

    A score is the root of class probability times centreness; the shift is exact where centreness is
    `USUAL_CENTRENESS` and close around it. At most `MAX_SHIFT`.
    """
    before, after = (_logit(min(0.98, score**2 / USUAL_CENTRENESS)) for score in (threshold, TARGET_SCORE))
    return float(np.clip(after - before, -MAX_SHIFT, MAX_SHIFT))


def calibrated(model: FcosDetector, threshold: float) -> FcosDetector:
    """A copy of the model whose scores are moved so that `threshold` becomes 0.5; which boxes it finds is as before."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.head.classification_head.cls_logits.bias += shift_for(threshold)
    return moved


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
