"""What has finished is found again, and only that; a sweep's folder and MLflow run belong to one command."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vitmalis.errors import UserError
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.evaluation import cli
from vitmalis_jobs.evaluation.parent import close_parent, open_parent
from vitmalis_jobs.evaluation.sweep import print_comparison
from vitmalis_jobs.run.directory import RunDirectory, RunInProgress, read_summaries, read_sweep
from vitmalis_jobs.run.run_index import IndexEntry, RunIndex


class KnownRuns:
    """A store that holds the runs it is told of."""

    name = "store"

    def __init__(self, *run_ids: str) -> None:
        self.run_ids = run_ids

    def has_finished(self, run_id: str) -> bool:
        return run_id in self.run_ids


@pytest.fixture
def finished(tmp_path: Path) -> tuple[RunIndex, Path]:
    """One finished run, `abc`, and its folder."""
    place = RunDirectory(tmp_path / "run")
    place.write_summary("FINISHED", {"rendering_f1": 0.5}, run_id="r", identity="abc")
    for name in (FRAMES_FILE, OFFLOADS_FILE):
        (place.directory / name).touch()
    runs = RunIndex(tmp_path / "finished")
    runs.note(IndexEntry(identity="abc", run_dir=place.run_dir, run_id="r", store="store", metrics={"f": 0.5}))
    return runs, place.directory


def test_a_finished_run_is_found(finished: tuple[RunIndex, Path]) -> None:
    found = finished[0].find("abc", KnownRuns("r"))
    assert found is not None
    assert (found.metrics, Path(found.run_dir)) == ({"f": 0.5}, finished[1])
    assert finished[0].find("abd", KnownRuns("r")) is None


def test_a_run_whose_mlflow_run_is_gone_has_not_finished(finished: tuple[RunIndex, Path]) -> None:
    assert finished[0].find("abc", KnownRuns()) is None
    elsewhere = KnownRuns("r")
    elsewhere.name = "another store"
    assert finished[0].find("abc", elsewhere) is None


@pytest.mark.parametrize("name", [FRAMES_FILE, OFFLOADS_FILE, "summary.json"])
def test_a_run_whose_records_are_gone_has_not_finished(finished: tuple[RunIndex, Path], name: str) -> None:
    (finished[1] / name).unlink()
    assert finished[0].find("abc", KnownRuns("r")) is None


@pytest.mark.parametrize(("status", "identity"), [("FINISHED", "later"), ("KILLED", "abc")])
def test_a_later_run_in_the_same_folder_is_not_taken_for_it(
    finished: tuple[RunIndex, Path], status: str, identity: str
) -> None:
    RunDirectory(finished[1]).write_summary(status, {}, identity=identity)
    assert finished[0].find("abc", KnownRuns("r")) is None


def test_a_damaged_note_is_none(finished: tuple[RunIndex, Path], tmp_path: Path) -> None:
    (tmp_path / "finished" / "ab" / "abc.json").write_text("{")
    assert finished[0].find("abc", KnownRuns("r")) is None


def _claim(folder: Path, claimed: object, release: object) -> None:
    with RunIndex(folder).claimed("abc", wait=False):
        claimed.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_a_claimed_run_is_elsewhere_until_its_process_ends_in_any_way(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    claimed, release = context.Event(), context.Event()
    process = context.Process(target=_claim, args=(tmp_path, claimed, release))
    process.start()
    assert claimed.wait(60)
    runs = RunIndex(tmp_path)
    with pytest.raises(RunInProgress), runs.claimed("abc", wait=False):
        pass
    with runs.claimed("abd", wait=False):
        pass  # another run is free
    process.kill()
    process.join()
    with runs.claimed("abc", wait=True):
        pass


def mlflow(folder: Path) -> object:
    return OmegaConf.create(
        {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "experiment": "e", "artifact_dir": str(folder / "artifacts")}
    )


def test_a_sweep_has_one_run_above_it_however_often_it_starts(tmp_path: Path) -> None:
    sweep, options = tmp_path / "s", mlflow(tmp_path)
    open_parent(sweep, ["policy=a,b"], options)
    first = read_sweep(sweep)["run_id"]
    assert RunDirectory(sweep / "0", sweep).parent_run_id == first
    store = Store(options.tracking_uri, "e", tmp_path / "artifacts")  # type: ignore[attr-defined]
    RunDirectory(sweep / "0", sweep).write_summary("KILLED", {})
    close_parent(sweep, options, interrupted=True, failed=False)
    assert store.client.get_run(first).info.status == "KILLED"
    open_parent(sweep, ["policy=a,b"], options)
    assert read_sweep(sweep)["run_id"] == first
    assert store.client.get_run(first).info.status == "RUNNING"
    RunDirectory(sweep / "0", sweep).write_summary("FINISHED", {}, skipped=True)
    close_parent(sweep, options, interrupted=False, failed=False)
    parent = store.client.get_run(first)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"runs_finished": 1, "runs_failed": 0, "runs_taken_over": 1}
    store.client.delete_run(first)
    open_parent(sweep, ["policy=a,b"], options)
    assert read_sweep(sweep)["run_id"] != first


def test_a_folder_is_not_shared_by_two_commands(tmp_path: Path) -> None:
    open_parent(tmp_path / "s", ["policy=a,b"], mlflow(tmp_path))
    with pytest.raises(UserError, match=r"another command \(policy=a,b\).*another sweep.name"):
        open_parent(tmp_path / "s", ["policy=a"], mlflow(tmp_path))


def test_a_run_elsewhere_leaves_no_summary(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "0", tmp_path)
    with pytest.raises(RunInProgress), place.summary_on_failure():
        raise RunInProgress("busy")
    assert read_summaries(tmp_path) == []


def test_a_run_ended_by_its_launcher_is_killed(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path / "0", tmp_path)
    with pytest.raises(SystemExit), place.summary_on_failure():
        raise SystemExit(1)
    assert read_summaries(tmp_path)[0]["status"] == "KILLED"


def test_a_long_sweep_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(70):
        place = RunDirectory(tmp_path / str(number), tmp_path, number, (f"trace.index={number}",))
        if number == 69:
            place.write_summary("FAILED", {}, error="no such trace")
        else:
            place.write_summary("FINISHED", {}, skipped=number < 9)
    assert print_comparison(tmp_path)
    said = capsys.readouterr().out
    assert "70 runs: 9 taken over, 60 finished, 1 failed" in said
    assert "trace.index=69: no such trace" in said


def test_summaries_hold_what_reports_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunDirectory(tmp_path / "runs" / "0").write_summary("FINISHED", {"f": 1.0}, run_id="x", identity="abc")
    assert json.loads((tmp_path / "runs" / "0" / "summary.json").read_text()) == {
        "status": "FINISHED",
        "overrides": [],
        "metrics": {"f": 1.0},
        "run_dir": "runs/0",
        "skipped": False,
        "run_id": "x",
        "identity": "abc",
    }


def test_a_worker_in_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli._check_place(tmp_path)
    with pytest.raises(UserError, match="start workers there"):
        cli._check_place(tmp_path.parent)
