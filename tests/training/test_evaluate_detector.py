from pathlib import Path

import pytest

from vitmalis.detector import build_model, preset, save_checkpoint
from vitmalis_jobs.training.detection.validation_set import evenly_spaced
from vitmalis_jobs.training.evaluate_detector import seconds_per_part, trained_model


@pytest.mark.parametrize(("window", "expected"), [(None, 5), (3, 3)])
def test_a_model_is_evaluated_with_the_window_it_was_trained_with(
    window: int | None, expected: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(build_model(preset("vitdet_tiny")), path, {"data": "none, random"})
    assert trained_model("vitdet_tiny", path, window).config.vit.window == expected


def test_the_times_of_the_parts_add_up_to_that_of_the_frame() -> None:
    seconds = seconds_per_part(build_model(preset("vitdet_tiny")).eval(), repeats=1)
    assert min(seconds.values()) > 0
    assert seconds.pop("frame") == pytest.approx(sum(seconds.values()))


def test_evenly_spaced_indices_by_hand() -> None:
    assert evenly_spaced(11, 3) == [0, 5, 10]
    assert evenly_spaced(2, 6) == [0, 1]
    assert evenly_spaced(5, 1) == [0]
