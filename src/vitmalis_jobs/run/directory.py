"""The folder of a run, and of a sweep that it may belong to: their small JSON files, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from vitmalis.locks import file_lock
from vitmalis.paths import atomic_path, remove_if_only
from vitmalis.untrusted_files import damage_reported
from vitmalis_jobs.common.job_output import json_text
from vitmalis_jobs.common.storage_errors import noted_on

RUN_FILE = ".vitmalis-run"
"""Lies in the folder of every run from its first moment; locked while the run is made."""
SUMMARY_FILE = "summary.json"
SWEEP_FILE = "sweep.json"
_REFUSED_FILES = {
    RUN_FILE,
    SUMMARY_FILE,
    "logs/evaluate.log",
    *(f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")),
}
"""What lies in the folder of a run that was refused."""


class RunInProgress(Exception):
    """Another process is making the same run."""


@contextmanager
def made_alone(what: str, lock_file: Path, wait: bool) -> Iterator[None]:
    """Make sure that no other process makes the same inside the block; one that ends in any way releases the lock.

    Args:
        what: that is made, for the error.
        lock_file: of all that make it; its folder is created.
        wait: whether to wait for another process that is making it.

    Raises:
        RunInProgress: another process is making it, and `wait` is false.
    """
    lock = file_lock(lock_file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunInProgress(f"another process is making {what}") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where a run leaves its results.

    Attributes:
        path: the run's own folder.
        sweep: folder of the sweep that it is part of, or None.
        number: its number in the sweep.
        overrides: options of its command line.
    """

    path: Path
    sweep: Path | None = None
    number: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def parent_run_id(self) -> str:
        """Id of the sweep's MLflow run; empty for a run on its own."""
        return "" if self.sweep is None else str(read_sweep(self.sweep).get("run_id", ""))

    @property
    def run_dir(self) -> str:
        """The run's folder, relative to the working directory if it lies in there."""
        directory, here = self.path.resolve(), Path.cwd()
        return str(directory.relative_to(here) if directory.is_relative_to(here) else directory)

    def in_use(self, wait: bool) -> AbstractContextManager[None]:
        """Mark the folder as that of a run, and keep other processes from making or deleting the run meanwhile.

        Args:
            wait: whether to wait for another process that is making it.

        Raises:
            RunInProgress: another process is making it, and `wait` is false.
        """
        return made_alone(f"the run in {self.path}", self.path / RUN_FILE, wait)

    def summary(self, status: str, metrics: dict[str, float], **facts: Any) -> dict[str, Any]:
        """The summary that comparisons and reports read: status, options, metrics and further facts."""
        summary: dict[str, Any] = {"status": status, "overrides": list(self.overrides), "metrics": metrics}
        return summary | {"run_dir": self.run_dir, "skipped": False} | facts

    def write_summary(self, status: str, metrics: dict[str, float], **facts: Any) -> None:
        """Write the summary of the run into its folder."""
        write_json(self.path / SUMMARY_FILE, self.summary(status, metrics, **facts))

    @contextmanager
    def summary_on_failure(self) -> Iterator[None]:
        """Write a summary with status FAILED or KILLED if the block raises, unless the run finished inside it."""
        before = read_summary(self.path)
        try:
            yield
        except RunInProgress:
            raise
        except BaseException as error:
            if read_summary(self.path) in (before, None):
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                with noted_on(error, f"no {SUMMARY_FILE}"):
                    self.write_summary(status, {}, error=" ".join(str(error).split()))
            raise

    def discard(self, top: Path) -> None:
        """Remove what a run left that was refused before it played: nothing that anyone would look for.

        A folder of a sweep, whose table shows refusals, and one that holds anything else stay as they are.

        Args:
            top: absolute path of a folder; those below it that become empty are removed, too.
        """
        if self.sweep is None:
            remove_if_only(self.path, _REFUSED_FILES, top)


def read_sweep(directory: Path) -> dict[str, Any]:
    """The content of a sweep's `sweep.json`; empty where there is none."""
    path = directory / SWEEP_FILE
    if not path.exists():
        return {}
    with damage_reported(f"sweep file {path}", "choose another sweep.name, or remove the folder"):
        content = dict(json.loads(path.read_text()))
        if not isinstance(content.get("command"), list):
            raise ValueError("no command")
    return content


def read_summary(directory: Path) -> dict[str, Any] | None:
    """The summary in a run's folder; None if there is none, or one that cannot be read."""
    try:
        content = dict(json.loads((directory / SUMMARY_FILE).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return content


def read_summaries(sweep: Path) -> list[dict[str, Any]]:
    """The summaries of a sweep's runs so far, in the order of their numbers."""
    paths = sorted(sweep.glob(f"*/{SUMMARY_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [_whole(read_summary(path.parent) or {}, path) for path in paths]


def _whole(summary: dict[str, Any], path: Path) -> dict[str, Any]:
    """A summary with all that is read of one; in place of a damaged one, that of a run that failed."""
    summary = {"run_dir": str(path.parent), "skipped": False} | summary
    kinds = {"status": str, "overrides": list, "metrics": dict, "run_dir": str, "skipped": bool}
    if all(isinstance(summary.get(name), kind) for name, kind in kinds.items()):
        return summary
    damaged = {"status": "FAILED", "overrides": [], "metrics": {}, "run_dir": str(path.parent), "skipped": False}
    return damaged | {"error": f"{path} is damaged: make the run again"}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(content) + "\n")
