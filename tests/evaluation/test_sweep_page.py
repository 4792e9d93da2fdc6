"""The MLflow run of a sweep: a name that says what varies, and a table of the sweep's runs."""

from __future__ import annotations

from typing import Any

import pytest

from vitmalis_jobs.evaluation.sweep_page import sweep_note, sweep_tags, sweep_title

COMMAND = ["policy=trackb2b,vitmalis", "trace=4g,5g", "clock=virtual", "trace.index=range(0,12)"]


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("22-33-24-204848", "sweep policy=trackb2b,vitmalis trace=4g,5g trace.index=(12 values)"),
        ("abl", "sweep abl: policy=trackb2b,vitmalis trace=4g,5g trace.index=(12 values)"),
    ],
)
def test_a_sweep_is_named_after_what_varies(folder: str, title: str) -> None:
    assert sweep_title(folder, COMMAND) == title


def test_a_sweep_of_one_run_keeps_its_name() -> None:
    assert (sweep_title("abl", ["policy=vitmalis"]), sweep_title("22-33", ["clock=virtual"])) == ("sweep abl", "sweep")


def test_a_sweep_has_the_values_of_its_runs_as_tags() -> None:
    assert sweep_tags(COMMAND, {"policy": "oracle", "video": "walkS", "hydra/launcher": "basic"}) == {
        "policy": "trackb2b, vitmalis",
        "trace": "4g, 5g",
        "clip": "walkS",
        "clock": "virtual",
        "sweep.command": "policy=trackb2b,vitmalis trace=4g,5g clock=virtual trace.index=range(0,12)",
    }


def summary(policy: str, status: str, metrics: dict[str, float], **facts: Any) -> dict[str, Any]:
    overrides = [f"policy={policy}", "clock=virtual"]
    return {"overrides": overrides, "status": status, "metrics": metrics, "skipped": False} | facts


def test_the_note_of_a_sweep_has_a_row_for_each_run() -> None:
    runs = [
        summary("trackb2b", "FINISHED", {"rendering_f1": 0.5, "e2e_latency_s_median": 0.2}, run_id="a"),
        summary("vitmalis", "FINISHED", {"rendering_f1": 0.6, "lost_frames": 3}, run_id="b", skipped=True),
        summary("oracle", "FAILED", {}),
    ]
    assert sweep_note(runs, "1").splitlines() == [
        "| policy | F1 render | F1 infer | E2E ms median | E2E ms p90 | E2E ms network | E2E ms inference | "
        "interval frames | lost offloads | lost frames | run |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |",
        "| trackb2b | 0.500 | - | 200 | - | - | - | - | - | - | [open](#/experiments/1/runs/a) |",
        "| vitmalis | 0.600 | - | - | - | - | - | - | - | 3 | [taken over](#/experiments/1/runs/b) |",
        "| oracle | failed |  |  |  |  |  |  |  |  |  |",
    ]


def test_the_note_of_a_large_sweep_says_how_many_runs_it_leaves_out() -> None:
    runs = [summary(f"policy_{number:03}", "FINISHED", {}, run_id="a" * 32) for number in range(100)]
    *rows, empty, rest = sweep_note(runs, "1").splitlines()
    assert len("\n".join((*rows, empty, rest))) <= 8000
    assert (empty, rest) == ("", f"{102 - len(rows)} more runs are in the table of runs.")
    assert rows[-1].startswith(f"| policy_{len(rows) - 3:03} |")
    assert len(rows) > 60
