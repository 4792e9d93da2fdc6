"""The run index finds the runs that have finished, and only those; a lock lets one process make a run."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE
from vitmalis_jobs.run.directory import RunDirectory, RunInProgress
from vitmalis_jobs.run.records import records_sha256
from vitmalis_jobs.run.run_index import IndexEntry, RunIndex


class KnownRuns:
    """A store that holds some runs."""

    name = "store"

    def __init__(self, *run_ids: str) -> None:
        self.run_ids = run_ids

    def finish(self, run_id: str) -> bool:
        return run_id in self.run_ids


@pytest.fixture
def finished(tmp_path: Path) -> tuple[RunIndex, Path]:
    """One finished run, `abc`, and its folder."""
    place = RunDirectory(tmp_path / "run")
    facts = {"run_id": "r", "fingerprint": "abc"}
    place.write_summary("FINISHED", {"f": 0.5}, **facts)
    for name in (FRAMES_FILE, OFFLOADS_FILE):
        (place.path / name).write_text(name)
    index = RunIndex(tmp_path / "index")
    index.record(
        IndexEntry(
            fingerprint="abc",
            run_id="r",
            store="store",
            records=records_sha256(place.path),
            summary=place.summary("FINISHED", {"f": 0.5}, **facts),
        )
    )
    return index, place.path


def test_a_finished_run_is_found(finished: tuple[RunIndex, Path]) -> None:
    found = finished[0].find("abc", KnownRuns("r"))
    assert found is not None
    assert (found.metrics, Path(found.run_dir)) == ({"f": 0.5}, finished[1])
    assert finished[0].find("abd", KnownRuns("r")) is None


def test_a_run_whose_mlflow_run_is_gone_has_not_finished(finished: tuple[RunIndex, Path]) -> None:
    assert finished[0].find("abc", KnownRuns()) is None
    other = KnownRuns("r")
    other.name = "another store"
    assert finished[0].find("abc", other) is None


@pytest.mark.parametrize("name", [FRAMES_FILE, OFFLOADS_FILE])
def test_a_run_whose_records_are_gone_or_changed_has_not_finished(finished: tuple[RunIndex, Path], name: str) -> None:
    (finished[1] / name).write_text("of a later run")
    assert finished[0].find("abc", KnownRuns("r")) is None
    (finished[1] / name).unlink()
    assert finished[0].find("abc", KnownRuns("r")) is None


def test_a_run_killed_before_its_summary_is_completed(finished: tuple[RunIndex, Path]) -> None:
    path = finished[1] / "summary.json"
    before = path.read_text()
    path.unlink()
    assert finished[0].find("abc", KnownRuns("r")) is not None
    assert path.read_text() == before


@pytest.mark.parametrize(("status", "fingerprint"), [("FINISHED", "later"), ("KILLED", "abc")])
def test_a_later_run_in_the_same_folder_is_not_taken_for_it(
    finished: tuple[RunIndex, Path], status: str, fingerprint: str
) -> None:
    RunDirectory(finished[1]).write_summary(status, {}, fingerprint=fingerprint)
    assert finished[0].find("abc", KnownRuns("r")) is None


def test_a_damaged_entry_is_no_run(finished: tuple[RunIndex, Path], tmp_path: Path) -> None:
    path = tmp_path / "index" / "ab" / "abc.json"
    entry = json.loads(path.read_text())
    for summary in ({}, {"run_dir": 7, "metrics": {}}, {"run_dir": "x", "metrics": None}, []):
        path.write_text(json.dumps(entry | {"summary": summary}))
        assert finished[0].find("abc", KnownRuns("r")) is None
    path.write_text("{")
    assert finished[0].find("abc", KnownRuns("r")) is None


def _hold(folder: Path, locked: object, release: object) -> None:
    with RunIndex(folder).lock("abc", wait=False):
        locked.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_a_locked_run_is_in_progress_until_its_process_ends_in_any_way(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    locked, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, locked, release))
    process.start()
    assert locked.wait(60)
    runs = RunIndex(tmp_path)
    with pytest.raises(RunInProgress), runs.lock("abc", wait=False):
        pass
    with runs.lock("abd", wait=False):
        pass  # another run is not locked
    process.kill()
    process.join()
    with runs.lock("abc", wait=True):
        pass
