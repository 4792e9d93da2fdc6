"""The default run next to two busy loops and alone: `evaluate.py` as a newcomer starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from vitmalis_jobs.common.machine_load import BUSY_SHARE
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run.disturbance import SLOW

PROJECT = Path(__file__).parents[2]


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def evaluate(folder: Path) -> tuple[str, dict[str, Any]]:
    """What the default run prints, and its summary."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(PROJECT / "evaluate.py"), "eval.seconds=3", "output.video_seconds=1"]
    command += ["hydra.run.dir=run"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1700)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads((folder / "run" / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_default_run_next_to_busy_loops_ends_with_a_warning_and_alone_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with busy_loops(max(2, psutil.cpu_count() or 1)):
        said, summary = evaluate(tmp_path)
    metrics = summary["metrics"]
    assert metrics["other_load"] >= BUSY_SHARE
    assert metrics["busy_machine"] == 1.0
    *_, last = said.splitlines()
    assert last.startswith("warning: do not trust this result. The machine was busy or slow: other programs took")
    assert "clock=virtual" in last
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///runs/mlflow.db", "evaluation", Path("runs/artifacts"))
    tags = store.client.get_run(summary["run_id"]).data.tags
    assert tags["busy_machine"].startswith("other programs took")
    assert "do not trust this result" in tags["mlflow.note.content"]
    assert not list(Path("runs/index").rglob("*.json"))  # no sweep takes it over

    said, summary = evaluate(tmp_path)
    metrics = summary["metrics"]
    if metrics["other_load"] >= BUSY_SHARE or metrics.get("inference_slowdown", 1.0) >= SLOW:
        pytest.skip(f"other programs than the test's took {metrics['other_load']:.0%} of this machine's processor time")
    assert "busy_machine" not in metrics
    assert "do not trust" not in said
    assert "busy_machine" not in store.client.get_run(summary["run_id"]).data.tags
