"""Clock agreement: the metrics it compares, the band it accepts, and the runs it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.virtual.test_virtual_client import TABLES
from vitmalis.errors import UserError
from vitmalis.estimation.latency import load_latency_tables, save_latency_tables
from vitmalis.records import OffloadRecord, RecordsInfo, write_run
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import pipeline
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.validation import clock_agreement as agreement
from vitmalis_jobs.validation.clock_agreement import Band, compare_metrics, main

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
    far_off = METRICS | {"rendering_f1": 0.9}  # measured tables do not count
    assert Band(0.0301, 0.1001).holds(compare_metrics([METRICS], far_off, virtual)) is within


def test_the_mean_of_real_runs_counts() -> None:
    apart = [METRICS | {"rendering_f1": 0.46}, METRICS | {"rendering_f1": 0.54}]
    row = compare_metrics(apart, METRICS, METRICS | {"rendering_f1": 0.52})
    assert row["rendering_f1"]["real"] == pytest.approx(0.50)
    assert row["rendering_f1"]["real_runs"] == [0.46, 0.54]
    assert Band(0.03, 0.1).holds(row)


def test_a_run_without_answers_is_a_users_mistake() -> None:
    silent = {"rendering_f1": 0.0}
    with pytest.raises(UserError, match="a run has no e2e_latency_s_median"):
        compare_metrics([METRICS, silent], METRICS, METRICS)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Latency tables that need not be measured."""
    save_latency_tables(TABLES, tmp_path / "measured.json")
    monkeypatch.setattr(agreement.Runs, "tables", lambda *_: (tmp_path / "measured.json", True))
    return tmp_path / "measured.json"


def test_both_clocks_are_compared_and_only_the_result_is_printed(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, str | None]] = []
    indices: set[str] = set()
    folder = tmp_path / "runs"

    def run_evaluation(
        config: EvaluationConfig, place: RunDirectory, resources: Resources, terminal: Terminal
    ) -> dict[str, float]:
        made.append((config.clock.name, config.latency.tables))
        if not config.virtual:
            indices.add(config.sweep.index)
        assert place.sweep == folder  # finished runs are found in the run index, as in a sweep
        assert config.policy_options.get("latency_tables") == (str(tables) if config.latency.tables else None)
        terminal.warn("for people")
        slower = 1.5 if not config.virtual else 1.0
        offload = OffloadRecord(
            offload_id=0, frame_index=0, start_time_s=0.0, regions=6, encode_s=0.02, decode_s=0.03,
            inference_s=0.2 * slower,
        )  # fmt: skip
        write_run(place.path, RecordsInfo(policy="vitmalis", clip="market1906"), [], [offload])
        place.write_summary("FINISHED", METRICS)
        busy = {"busy_machine": 1.0} if not config.virtual and len(made) < 4 else {}  # only in the first pair
        return METRICS | {"rendering_f1": 0.5 if config.virtual else 0.51} | busy

    monkeypatch.setattr(pipeline, "run_evaluation", run_evaluation)
    arguments = ["--policy", "vitmalis", "--trace", "4g,5g", "--folder", str(folder), "eval.seconds=1"]
    assert main(arguments) == 0
    calibrated = [str(folder / f"tables_{pair}.json") for pair in (0, 1)]
    assert made == [
        (clock, given)
        for path in calibrated
        for clock, given in (("realtime", None), ("virtual", None), ("virtual", path))
    ]
    assert float(load_latency_tables(Path(calibrated[0])).inference_s(0, 0)) == pytest.approx(0.3)
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert [row["busy_runs"] for row in result["rows"]] == [1, 0]
    assert said.err.count("yes*") == 1
    assert "warning: 1 runs were played while the machine was busy or slow (*)" in said.err
    assert result == json.loads((folder / "clock_agreement.json").read_text())
    assert result["rows"][0]["rendering_f1"] == {"real": 0.51, "real_runs": [0.51], "by_tables": 0.5, "virtual": 0.5}
    assert result["rows"][0]["speed"]["inference"] == pytest.approx(1.5)
    assert main([*arguments, "--f1-band", "0.001"]) == 1
    made.clear()
    indices.clear()
    assert main([*arguments, "--repeats", "2"]) == 0
    assert [clock for clock, _ in made] == 2 * ["realtime", "realtime", "virtual", "virtual"]
    assert len(indices) == 2, "a repeated run must not be taken for the first"


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path), "--policy", "none"]) == 2
    assert "policy=none is unknown" in capsys.readouterr().err
    assert main(["--repeats", "0"]) == 2
    assert "--repeats must be at least 1, not 0" in capsys.readouterr().err
