"""Real sweeps: killed in the middle and continued, shared by four processes, spread by launchers."""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from pathlib import Path

import pytest
from mlflow.entities import Run, ViewType

from tests.evaluation.tiny_sweep import make_clip, start_sweep
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run.directory import read_summaries, read_sweep

pytestmark = pytest.mark.timeout(1800)
SWEEP = Path("runs") / "sweeps" / "s"
PATIENCE_S = 600
"""Long enough on a machine that is busy with other work."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_clip(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded() -> tuple[Run, list[Run]]:
    """The sweep's run in MLflow, and those below it."""
    store = Store("sqlite:///runs/mlflow.db", "evaluation", Path("runs/artifacts"))
    runs = store.client.search_runs([store.experiment_id], run_view_type=ViewType.ALL)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    return parent, children


def assert_whole(runs: int) -> None:
    """Every run there, none twice, nothing left running."""
    parent, children = recorded()
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert len(finished) == len({run.data.tags["fingerprint"] for run in finished}) == runs
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
    summaries = read_summaries(SWEEP)
    assert [summary["status"] for summary in summaries] == ["FINISHED"] * runs
    assert {summary["run_id"] for summary in summaries} == {run.info.run_id for run in finished}
    assert {summary["fingerprint"] for summary in summaries} == {run.data.tags["fingerprint"] for run in finished}
    assert read_sweep(SWEEP)["run_id"] == parent.info.run_id
    assert parent.info.status == "FINISHED"


def test_a_sweep_killed_in_the_middle_continues(folder: Path) -> None:
    process = start_sweep(folder)
    deadline = time.monotonic() + PATIENCE_S
    while not (SWEEP / "0" / "summary.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    first = json.loads((SWEEP / "0" / "summary.json").read_text())
    parent, children = recorded()
    assert parent.info.status == "KILLED", "nothing that was killed outright is left RUNNING"
    assert sum(run.info.status == "FINISHED" for run in children) < 3
    again = start_sweep(folder)
    said, complaints = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, complaints
    assert "an equal run has finished" in said
    assert json.loads((SWEEP / "0" / "summary.json").read_text()) == first
    assert_whole(3)


KILLED_WHILE_FINISHING = """
import os, signal, sys
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.evaluation.cli import main
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.run_index import RunIndex

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_after(owner, name):
    real = getattr(owner, name)
    def call(*arguments, **options):
        real(*arguments, **options)
        kill()
    setattr(owner, name, call)

match "POINT":
    case "before the index":
        RunIndex.record = kill
    case "after the index":
        kill_after(RunIndex, "record")
    case "after MLflow":
        kill_after(Run, "finish")
    case "after the summary":
        kill_after(RunDirectory, "write_summary")
sys.exit(main())
"""


@pytest.mark.parametrize("point", ["before the index", "after the index", "after MLflow", "after the summary"])
def test_a_run_killed_while_it_finishes_is_made_once(folder: Path, point: str) -> None:
    script = folder / "killed.py"
    script.write_text(KILLED_WHILE_FINISHING.replace("POINT", point))
    process = start_sweep(folder, "policy=back2back", script=str(script))
    _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, complaints
    before = {run.info.run_id for run in recorded()[1]}
    assert len(before) == 1
    again = start_sweep(folder, "policy=back2back")
    said, complaints = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, complaints
    made_again = point == "before the index"
    assert ("an equal run has finished" in said) != made_again
    assert len({run.info.run_id for run in recorded()[1]}) == 1 + made_again
    assert_whole(1)


@pytest.mark.slow
def test_four_processes_work_through_one_sweep(folder: Path) -> None:
    processes = [start_sweep(folder, "policy=back2back,trackb2b,trackud,trackroi") for _ in range(4)]
    for process in processes:
        _, complaints = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, complaints
    assert_whole(4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "options"),
    [
        ("joblib", ["hydra.launcher.n_jobs=2"]),
        ("ray", ["+hydra.launcher.ray.init.num_cpus=2"]),
        ("submitit_local", ["hydra.launcher.tasks_per_node=1"]),
    ],
)
def test_a_launcher_makes_every_run_once(folder: Path, launcher: str, options: list[str]) -> None:
    plugin = f"hydra_{launcher.removesuffix('_local')}_launcher"
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed: pip install '.[{launcher.removesuffix('_local')}]'")
    launched = [f"hydra/launcher={launcher}", *options]
    first = start_sweep(folder, *launched, "trace=4g,5g")
    _, complaints = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, complaints
    assert_whole(6)
    failing = start_sweep(folder, *launched, "sweep.name=f", "policy=back2back", "trace.index=0,99")
    said, complaints = failing.communicate(timeout=PATIENCE_S)
    assert failing.returncode == 2, "a worker's failure reaches the command that started it"
    assert "trace.index is 99" in said + complaints
    statuses = [summary["status"] for summary in read_summaries(SWEEP.with_name("f"))]
    assert statuses == ["FINISHED", "FAILED"]
