"""Which runs have been made: a file for each identity, so that a sweep neither makes one twice nor loses one.

Files beside the runs and not a search in MLflow: opening one takes the same time among thousands, works with any
tracking server, and tells where the records lie, which is what a comparison needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from filelock import FileLock, Timeout

from vitmalis.paths import atomic_path
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE
from vitmalis_jobs.run.directory import SUMMARY_FILE, RunInProgress


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A run that came to its end.

    Attributes:
        identity: digest of what it was.
        run_dir: folder of its records, as seen from the working directory.
        run_id: of the MLflow run.
        store: tracking address and experiment that hold it.
        metrics: its results.
    """

    identity: str
    run_dir: str
    run_id: str
    store: str
    metrics: dict[str, float]


class RunStore(Protocol):
    """What is asked of `vitmalis_jobs.common.mlflow_store.Store`."""

    @property
    def name(self) -> str:
        """Tracking address and experiment."""

    def has_finished(self, run_id: str) -> bool:
        """Whether it holds this run, finished and not deleted."""


class RunIndex:
    """The finished runs of a project; safe with many processes and, where file locks are, many machines.

    Args:
        folder: for the files; on a cluster shared by all machines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, identity: str, store: RunStore) -> IndexEntry | None:
        """A run of this identity whose records are still there and whose MLflow run is in this store."""
        try:
            found = msgspec.json.decode(self._path(identity).read_bytes(), type=IndexEntry)
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # a damaged note costs one run, which writes it anew
        usable = found.store == store.name and _holds(Path(found.run_dir), identity)
        return found if usable and store.has_finished(found.run_id) else None

    def note(self, run: IndexEntry) -> None:
        """Remember a run; its records and its summary are written."""
        with atomic_path(self._path(run.identity)) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(run)))

    @contextmanager
    def claimed(self, identity: str, wait: bool) -> Iterator[None]:
        """Be the only one that makes this run; a process that ends in any way gives it free.

        Args:
            identity: of the run.
            wait: whether to wait for another process that is making it.

        Raises:
            RunElsewhere: another process is making it, and one should not wait.
        """
        path = self._path(identity).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunInProgress(f"another process is making run {identity}") from error
        try:
            yield
        finally:
            lock.release()

    def _path(self, identity: str) -> Path:
        return self._folder / identity[:2] / f"{identity}.json"


def _holds(run_dir: Path, identity: str) -> bool:
    """Whether a folder still holds the records of that run, and not of a later one in the same place."""
    try:
        summary = json.loads((run_dir / SUMMARY_FILE).read_text())
    except (OSError, ValueError):
        return False
    records = all((run_dir / name).is_file() for name in (FRAMES_FILE, OFFLOADS_FILE))
    return records and summary.get("identity") == identity and summary["status"] == "FINISHED"
