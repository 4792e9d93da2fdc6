import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitmalis.detector import build_model, preset
from vitmalis_jobs.training.detection.calibration import (
    BOTH_SIZES,
    MAX_SHIFT,
    best_threshold,
    best_thresholds,
    calibrated,
    shift_for,
)
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


def curve(**f1_at: float) -> SimpleNamespace:
    """Scores whose F1 is 0.2 except at some thresholds, given as `at_40` for 0.40."""
    values = np.full(len(THRESHOLDS), 0.2)
    for name, f1 in f1_at.items():
        values[int(name.removeprefix("at_")) - 10] = f1
    return SimpleNamespace(f1_curve=tuple(values))


def test_the_best_threshold_is_that_of_the_mean_curve() -> None:
    best = best_threshold([curve(at_13=0.9, at_30=0.6), curve(at_30=0.6, at_50=0.4), SimpleNamespace(f1_curve=())])
    assert best is not None
    assert (best.threshold, best.f1, best.f1_at_target) == pytest.approx((0.3, 0.6, 0.3))
    assert str(best) == "0.30 (mean F1 0.600, at 0.5 0.300)"
    assert best_threshold([SimpleNamespace(f1_curve=())]) is None


def test_the_shift_serves_full_and_half_size() -> None:
    """Full frames are best at 0.60 and halved ones at 0.30, but 0.45 is good for both."""
    full, halved = curve(at_60=0.9, at_45=0.8), curve(at_30=0.7, at_45=0.5)
    best = best_thresholds([SimpleNamespace(full=full, half_size=halved)])
    assert best["full_size"].threshold == pytest.approx(0.6)
    assert best["half_size"].threshold == pytest.approx(0.3)
    assert (best[BOTH_SIZES].threshold, best[BOTH_SIZES].f1) == pytest.approx((0.45, 0.65))
