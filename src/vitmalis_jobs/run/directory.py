"""The folder of a run, and of a sweep that it may belong to: their small JSON files, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitmalis.paths import atomic_path

SUMMARY_FILE = "summary.json"
SWEEP_FILE = "sweep.json"


class RunInProgress(Exception):
    """Another process is making the same run."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where a run belongs.

    Attributes:
        directory: its own folder.
        sweep: folder of the sweep it is part of, or None.
        number: its place in the sweep.
        overrides: what was asked for on the command line.
    """

    directory: Path
    sweep: Path | None = None
    number: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def parent_run_id(self) -> str:
        """MLflow run of the sweep; empty for a run on its own."""
        return "" if self.sweep is None else str(read_sweep(self.sweep).get("run_id", ""))

    @property
    def run_dir(self) -> str:
        """The run's folder as seen from the working directory, where it lies in there."""
        directory, here = self.directory.resolve(), Path.cwd()
        return str(directory.relative_to(here) if directory.is_relative_to(here) else directory)

    def write_summary(self, status: str, metrics: dict[str, float], **facts: Any) -> None:
        """Leave a small JSON file for comparisons."""
        summary: dict[str, Any] = {"status": status, "overrides": self.overrides, "metrics": metrics}
        summary |= {"run_dir": self.run_dir, "skipped": False} | facts
        write_json(self.directory / SUMMARY_FILE, summary)

    def forget_summary(self) -> None:
        """What an earlier run left here holds no more."""
        (self.directory / SUMMARY_FILE).unlink(missing_ok=True)

    @contextmanager
    def summary_on_failure(self) -> Iterator[None]:
        """A run that does not get to its end says so to whoever compares."""
        try:
            yield
        except RunInProgress:
            raise
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            self.write_summary(status, {}, error=" ".join(str(error).split()))
            raise


def read_sweep(directory: Path) -> dict[str, Any]:
    """What `sweep.json` says of a sweep; nothing where there is none."""
    try:
        content = json.loads((directory / SWEEP_FILE).read_text())
    except FileNotFoundError:
        return {}
    return dict(content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_summaries(sweep: Path) -> list[dict[str, Any]]:
    """The summaries of a sweep's runs so far, in the order of their numbers."""
    paths = sorted(sweep.glob(f"*/{SUMMARY_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [{"run_dir": str(path.parent), **json.loads(path.read_text())} for path in paths]
