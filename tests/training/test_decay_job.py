"""The F1 by age in seconds, pooled over clips of different frame rates by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.training.decay import fit, main


def result(**changes: Any) -> dict[str, Any]:
    """Indoor (30 FPS) loses 0.01 a frame and has one box, market1906 (16 FPS) 0.02 and three, up to age 16."""
    ages = list(range(1, 31))
    rows = [
        {"clip": "indoor", "f1_by_age": [1 - 0.01 * age for age in ages], "boxes_by_age": [1] * 30},
        {
            "clip": "market1906",
            "f1_by_age": [1 - 0.02 * age if age <= 16 else None for age in ages],
            "boxes_by_age": [3] * 16 + [0] * 14,
        },
        {"clip": "all", "f1_by_age": [0.1] * 30, "boxes_by_age": [9] * 30},
    ]
    return {"part": "profile", "ages": ages, "rows": [row | {"tracker": "lucas_kanade"} for row in rows]} | changes


def test_clips_are_pooled_by_boxes_at_equal_ages_in_seconds() -> None:
    ages_s, f1 = fit(result(), "lucas_kanade")
    assert ages_s == [0.0, 0.0333, 0.2, 0.4, 0.8]  # nothing is known at 1.2 s, age 36 at 30 FPS
    indoor = [1 - 0.01 * 30 * age_s for age_s in (0.2, 0.4, 0.8)]
    market = [1 - 0.02 * 16 * age_s for age_s in (0.2, 0.4, 0.8)]
    assert f1[2:] == pytest.approx([(a + 3 * b) / 4 for a, b in zip(indoor, market, strict=True)], abs=6e-4)
    assert f1[0] == 1.0
    assert f1 == sorted(f1, reverse=True)


def test_eval_parts_and_unknown_trackers_are_refused() -> None:
    with pytest.raises(UserError, match="measured on the eval parts"):
        fit(result(part="eval"), "lucas_kanade")
    with pytest.raises(UserError, match="no tracker 'kcf': choose one of lucas_kanade"):
        fit(result(), "kcf")


def test_prints_options_of_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tracking.json"
    file.write_text(json.dumps(result()))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out.startswith("decay_ages_s: [0.0, 0.0333, 0.2, 0.4, 0.8]\ndecay_f1: [1.0, ")
    file.write_text('{"part": "profile"}')
    assert main([str(file)]) == 2
    assert "measure again" in capsys.readouterr().err
