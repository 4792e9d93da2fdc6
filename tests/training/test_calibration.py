import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitmalis.detector import build_model, preset
from vitmalis_jobs.training.detection.calibration import MAX_SHIFT, best_threshold, calibrated, shift_for
from vitmalis_jobs.training.detection.detection_scores import THRESHOLDS


def test_the_shift_makes_the_threshold_a_half() -> None:
    for threshold in (0.35, 0.5, 0.6):
        # Class probability p and centreness 0.7 give the score sqrt(0.7 p).
        probability = threshold**2 / 0.7
        logit = math.log(probability / (1 - probability)) + shift_for(threshold)
        assert math.sqrt(0.7 / (1 + math.exp(-logit))) == pytest.approx(0.5)
    assert shift_for(0.05) == MAX_SHIFT


def test_calibration_moves_a_copy_of_the_class_bias_and_nothing_else() -> None:
    model = build_model(preset("vitdet_tiny"))
    moved = calibrated(model, 0.4)
    changed = [
        name
        for (name, a), (_, b) in zip(model.named_parameters(), moved.named_parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert changed == ["head.classification_head.cls_logits.bias"]


def test_the_best_threshold_is_that_of_the_mean_curve() -> None:
    curves = np.zeros((2, len(THRESHOLDS)))
    curves[0, 3], curves[0, 20], curves[1, 20] = 0.9, 0.6, 0.6
    assert best_threshold([SimpleNamespace(f1_curve=tuple(c)) for c in curves]) == pytest.approx(THRESHOLDS[20])
