import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from vitmalis.detector import build_model, preset, save_checkpoint
from vitmalis.types import Detections
from vitmalis_jobs.training.detection.calibration import MAX_SHIFT, best_threshold, calibrated, shift_for
from vitmalis_jobs.training.detection.scores import THRESHOLDS
from vitmalis_jobs.training.evaluate_detector import load, persistence, seconds_per_part


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


def test_persistence_by_hand() -> None:
    here, moved, far = [0, 0, 40, 40], [4, 0, 44, 40], [100, 0, 140, 40]
    found = [
        Detections.of([here, far], [0.9, 0.6], [0, 2]),
        Detections.of([moved, far, far], [0.8, 0.6, 0.45], [0, 0, 2]),
        Detections.of([moved], [0.8], [0]),
    ]
    # First frame: the person is kept, the car became a person. Second: the person is kept, the other is lost.
    assert persistence(found) == pytest.approx(2 / 4)
    assert math.isnan(persistence([Detections.empty()] * 3))


@pytest.mark.parametrize(("window", "expected"), [(None, 5), (3, 3)])
def test_a_model_is_judged_with_the_windows_it_was_trained_with(
    window: int | None, expected: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(build_model(preset("vitdet_tiny")), path, {"data": "none, random"})
    config = {"model": "vitdet_tiny", "start": {"window": window}, "export": {"path": str(path)}}
    assert load(OmegaConf.create(config)).config.vit.window == expected


def test_the_times_of_the_parts_add_up_to_that_of_the_frame() -> None:
    seconds = seconds_per_part(build_model(preset("vitdet_tiny")).eval(), repeats=1)
    assert min(seconds.values()) > 0
    assert seconds.pop("frame") == pytest.approx(sum(seconds.values()))
