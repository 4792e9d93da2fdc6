"""The agreement job: what it compares, what it accepts, and that finished runs are not made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation import job
from evaluation.agreement import Band, compared, main
from evaluation.config import EvaluationConfig
from evaluation.sweep import RunPlace
from evaluation.terminal import Terminal

METRICS = {
    "rendering_f1": 0.50,
    "e2e_latency_s_median": 0.40,
    "e2e_latency_s_p90": 0.50,
    "offload_interval_frames_median": 12.0,
}


@pytest.mark.parametrize(
    ("f1", "e2e_s", "within"), [(0.53, 0.40, True), (0.475, 0.44, True), (0.54, 0.40, False), (0.50, 0.45, False)]
)
def test_the_band(f1: float, e2e_s: float, within: bool) -> None:
    virtual = METRICS | {"rendering_f1": f1, "e2e_latency_s_median": e2e_s}
    assert Band(0.0301, 0.1001).holds(compared([METRICS], virtual)) is within


def test_the_mean_of_real_runs_counts() -> None:
    apart = [METRICS | {"rendering_f1": 0.46}, METRICS | {"rendering_f1": 0.54}]
    row = compared(apart, METRICS | {"rendering_f1": 0.52})
    assert row["rendering_f1"] == {"real": pytest.approx(0.50), "virtual": 0.52, "real_runs": [0.46, 0.54]}
    assert Band(0.03, 0.1).holds(row)


def test_both_clocks_are_compared_and_only_the_result_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, int]] = []
    noted: list[str] = []

    def evaluate(config: EvaluationConfig, place: RunPlace, terminal: Terminal) -> dict[str, float]:
        made.append((config.clock.name, place.number))
        noted.append(config.sweep.index)
        assert place.sweep == tmp_path  # finished runs are told by their identity, as in a sweep
        terminal.warn("said to people")
        return METRICS | {"rendering_f1": 0.5 if config.virtual else 0.51}

    monkeypatch.setattr(job, "evaluate", evaluate)
    arguments = ["--policy", "trackb2b", "--trace", "4g,5g", "--folder", str(tmp_path), "eval.seconds=1"]
    assert main(arguments) == 0
    assert made == [("realtime", 0), ("virtual", 1), ("realtime", 2), ("virtual", 3)]
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "agreement.json").read_text())
    assert told["rows"][0]["rendering_f1"] == {"real": 0.51, "virtual": 0.5, "real_runs": [0.51]}
    assert main([*arguments, "--f1-band", "0.001"]) == 1
    made.clear()
    noted.clear()
    assert main([*arguments, "--repeats", "2"]) == 0
    assert [clock for clock, _ in made] == 2 * ["realtime", "realtime", "virtual"]
    assert len(set(noted)) == 3, "a repeated run must not be taken for the first"


def test_mistakes_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path), "--policy", "none"]) == 2
    assert "policy=none is unknown" in capsys.readouterr().err
    assert main(["--repeats", "0"]) == 2
    assert "--repeats must be at least 1, not 0" in capsys.readouterr().err
