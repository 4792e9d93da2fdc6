"""The job that compares precisions with fp32: agreement by hand, what is compared with what, and a real clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vitmalis.matching import Counts
from vitmalis.types import Detections
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.profiling.box_agreement import Agreement, agreement, within_bars
from vitmalis_jobs.profiling.next_to_full import load_subject
from vitmalis_jobs.profiling.precision import Case, Comparison, Measured, command_line, contenders, main, row
from vitmalis_jobs.profiling.real_clips import ALL

REFERENCE = Detections.of(
    [[0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 500, 100], [600, 0, 700, 100]], [0.9, 0.8, 0.51, 0.49], [0, 2, 0, 0]
)
FOUND = Detections.of(
    [[0, 0, 101, 100], [200, 3, 300, 98], [400, 0, 500, 100], [600, 0, 700, 100], [0, 200, 50, 250]],
    [0.88, 0.81, 0.48, 0.53, 0.75],
    [0, 2, 0, 0, 0],
)
"""The first two match; the third vanishes, the fourth appears, and the fifth is in the reference with no score."""


def test_agreement_of_a_frame_by_hand() -> None:
    found = agreement(FOUND, REFERENCE)
    assert found.counts == Counts(tp=2, fp=2, fn=1)
    assert sorted(found.box_px) == [1.0, 3.0], "the edge that differs most"
    assert sorted(found.scores) == pytest.approx([0.01, 0.02], abs=1e-6)
    assert found.crossing == 2, "0.51 fell to 0.48, and 0.49 rose to 0.53"
    assert sorted(found.margins) == pytest.approx([0.01, 0.03, 0.25], abs=1e-6)


def test_numbers_of_frames_together() -> None:
    two = agreement(FOUND, REFERENCE) + agreement(REFERENCE, REFERENCE)
    assert two.numbers() == {
        "f1": round(2 * 5 / (2 * 5 + 2 + 1), 4),
        "boxes": 6,
        "appeared": 2,
        "vanished": 1,
        "crossing": 2,
        "margin_max": 0.25,
        "box_px_p95": 2.6,  # of 0, 0, 0, 1 and 3: four fifths of the way from 1 to 3
        "box_px_max": 3.0,
        "boxes_beyond_bar": 2,
        "score_p95": 0.018,
        "score_max": 0.02,
    }


def test_frames_without_boxes_agree() -> None:
    numbers = (Agreement() + agreement(Detections.empty(), Detections.empty())).numbers()
    assert numbers["f1"] is None
    assert numbers["box_px_max"] is numbers["score_max"] is numbers["margin_max"] is None
    assert within_bars(numbers)


@pytest.mark.parametrize(
    ("f1", "box_px", "score", "met"),
    [(0.99, 0.5, 0.02, True), (0.9899, 0, 0, False), (1, 0.51, 0, False), (1, 0, 0.0201, False)],
)
def test_bars(f1: float, box_px: float, score: float, met: bool) -> None:
    assert within_bars({"f1": f1, "box_px_max": box_px, "score_max": score}) == met


def test_a_row_has_medians_of_times_and_of_their_ratio() -> None:
    same = agreement(REFERENCE, REFERENCE)
    frames = [Measured(same, 10, 20), Measured(same, 30, 30), Measured(same, 20, 10)]
    found = row("clip", Case("bf16", "eager", "eager", None), frames)
    assert (found["inference_ms"], found["reference_ms"], found["time_ratio"], found["frames"]) == (20, 20, 1, 3)
    assert found["f1"] == 1.0
    assert found["bars_met"]


def test_fp32_is_compared_on_the_fused_engine_with_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    options = command_line().parse_args(["model.engine=fused", "--clips", "market1906"])
    detectors = contenders(load_subject(options, Terminal.on_stderr()), ["fp32", "bf16"])
    assert Comparison(detectors, [2], seed=0).cases() == [
        Case("fp32", "fused", "eager", None),
        Case("fp32", "fused", "eager", 2),
        Case("bf16", "fused", "fused", None),
        Case("bf16", "fused", "fused", 2),
    ]
    assert detectors["bf16"][0].model_id != detectors["bf16"][1].model_id


def test_the_job_on_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "precision.json"
    size = ("--max-width", "320", "--max-height", "180", "--seconds", "1", "--frames", "1")
    assert main(["--clips", "market1906", *size, "--points", "2", "model.device=cpu", "--output", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 0
    assert [(own["clip"], own["precision"], own["restoration_point"]) for own in result["rows"]] == [
        ("market1906", "bf16", None),
        ("market1906", "bf16", 2),
        (ALL, "bf16", None),
        (ALL, "bf16", 2),
    ]
    for own in result["rows"]:
        assert own["frames"] == 1
        assert own["time_ratio"] > 0
        assert own["score_max"] is None or own["score_max"] < 0.1
    assert result["bars_met"] == all(own["bars_met"] for own in result["rows"][2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precisions", "tf32", "model.device=cpu"], "on cpu tf32 is fp32"),
        (["--precisions", "fp32", "model.engine=eager"], "model.engine=fused"),
        (["model.precision=bf16"], "--precisions says what is compared"),
        (["--points", "7"], "0 to 4, not 7"),
        (["--frames", "0"], "--frames"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--clips", "market1906", "--output", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
