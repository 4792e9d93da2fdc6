"""The run index: one file per fingerprint, so that a sweep neither makes a run twice nor loses one.

Files next to the runs and not a search in MLflow: looking one up takes the same time among thousands, works with any
tracking server, and says where the records are, which comparisons need.

Writing the entry finishes a run. A run that is killed before that is made again. A run that is killed after it is
completed when its entry is next looked up: its status in MLflow and the summary in its folder are written then.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import decode_json
from vitmalis_jobs.run.directory import SUMMARY_FILE, made_alone, read_summary, write_json
from vitmalis_jobs.run.records import records_sha256


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of a finished run.

    Attributes:
        fingerprint: digest of its `RunFingerprint`.
        run_id: of its MLflow run.
        store: tracking address and experiment that hold it.
        records: SHA-256 of each of its record files, by name.
        summary: content of its summary, with its folder (`run_dir`) and its metrics.
    """

    fingerprint: str
    run_id: str
    store: str
    records: dict[str, str]
    summary: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.summary.get("run_dir"), str) or not isinstance(self.summary.get("metrics"), dict):
            raise ValueError("the summary has no folder or no metrics")

    @property
    def run_dir(self) -> str:
        """Folder of the run, as seen from the working directory."""
        return str(self.summary["run_dir"])

    @property
    def metrics(self) -> dict[str, float]:
        """The run's metrics by name."""
        return dict(self.summary["metrics"])


class RunStore(Protocol):
    """The part of `vitmalis_jobs.common.mlflow_store.Store` that the index needs."""

    @property
    def name(self) -> str:
        """Tracking address and experiment of the store."""

    def finish(self, run_id: str) -> bool:
        """Set a run's status to FINISHED; false if the store does not hold the run."""


class RunIndex:
    """The finished runs of a project; safe with many processes and, where file locks are, many machines.

    Args:
        folder: for the files; on a cluster shared by all machines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, fingerprint: str, store: RunStore) -> IndexEntry | None:
        """The finished run of this fingerprint, if its records are unchanged and its MLflow run is in this store.

        A run that was killed between its entry and its summary is completed first.
        """
        try:
            entry = decode_json(self._path(fingerprint).read_bytes(), IndexEntry)
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # a damaged entry costs one run, which writes it again
        if entry.store != store.name or not _is_whole(entry) or not store.finish(entry.run_id):
            return None
        summary = Path(entry.run_dir) / SUMMARY_FILE
        if not summary.exists():
            write_json(summary, entry.summary)
        return entry

    def record(self, entry: IndexEntry) -> None:
        """Add a run whose records, metrics and artifacts are written."""
        with atomic_path(self._path(entry.fingerprint)) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(entry)))

    def lock(self, fingerprint: str, wait: bool) -> AbstractContextManager[None]:
        """Make sure that no other process makes this run.

        Args:
            fingerprint: of the run.
            wait: whether to wait for another process that is making it.

        Raises:
            RunInProgress: another process is making it, and `wait` is false.
        """
        return made_alone(f"run {fingerprint}", self._path(fingerprint).with_suffix(".lock"), wait)

    def _path(self, fingerprint: str) -> Path:
        return self._folder / fingerprint[:2] / f"{fingerprint}.json"


def _is_whole(entry: IndexEntry) -> bool:
    """Whether the run's folder still holds its records, and no summary of a later run."""
    directory = Path(entry.run_dir)
    if not entry.records or records_sha256(directory) != entry.records:
        return False
    if not (directory / SUMMARY_FILE).exists():
        return True
    summary = read_summary(directory) or {}
    return summary.get("fingerprint") == entry.fingerprint and summary.get("status") == "FINISHED"
