"""Several runs at once: where each leaves its result, what they have in common, and the table that compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConf
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from vitmalis.errors import UserError

SUMMARY_FILE = "summary.json"
SWEEP_FILE = "sweep.json"
MAX_ROWS = 60
"""Runs that a person compares in one table; more are counted."""


class RunElsewhere(Exception):
    """Another process is making the same run."""


class SweepRefused(BaseException):
    """A sweep cannot start. Hydra turns the exceptions of a callback into warnings; this is none of them."""


@dataclass(frozen=True, slots=True)
class RunPlace:
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

    @classmethod
    def of(cls, hydra: HydraConf) -> RunPlace:
        """As Hydra has arranged it."""
        swept = hydra.mode == RunMode.MULTIRUN
        return cls(
            directory=Path(hydra.runtime.output_dir),
            sweep=Path(hydra.sweep.dir) if swept else None,
            number=int(hydra.job.num) if swept else 0,
            overrides=tuple(hydra.overrides.task),
        )

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
        except RunElsewhere:
            raise
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            self.write_summary(status, {}, error=" ".join(str(error).split()))
            raise


class SweepCallback(Callback):
    """Hydra tells it that a sweep starts; the end is told by `evaluation.cli`, also when it comes early."""

    directory: ClassVar[Path | None] = None
    config: ClassVar[DictConfig | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder, and open its MLflow run.

        Raises:
            SweepRefused: the folder belongs to another sweep, or the MLflow store cannot be opened.
        """
        from evaluation.parent import open_parent

        directory = Path(config.hydra.sweep.dir)
        try:
            open_parent(directory, _command(config), config.mlflow)
        except UserError as error:
            raise SweepRefused(error) from error
        SweepCallback.directory, SweepCallback.config = directory, config


def _command(config: DictConfig) -> list[str]:
    """What decides which runs a sweep has and how they are numbered."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    return params + [override for override in config.hydra.overrides.task if not override.startswith("sweep.")]


def read_sweep(directory: Path) -> dict[str, Any]:
    """What `sweep.json` says of a sweep; nothing where there is none."""
    try:
        content = json.loads((directory / SWEEP_FILE).read_text())
    except FileNotFoundError:
        return {}
    return dict(content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file, whole or not at all."""
    from vitmalis.paths import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_summaries(sweep: Path) -> list[dict[str, Any]]:
    """The summaries of a sweep's runs so far, in the order of their numbers."""
    paths = sorted(sweep.glob(f"*/{SUMMARY_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [{"run_dir": str(path.parent), **json.loads(path.read_text())} for path in paths]


def print_comparison(sweep: Path) -> bool:
    """Print one table of all runs of a sweep, nothing if none got far enough; returns whether any failed."""
    summaries = read_summaries(sweep)
    if summaries:
        from evaluation.terminal import Terminal

        if len(summaries) <= MAX_ROWS:
            Terminal().comparison(summaries, sweep)
        else:
            Terminal().tally(summaries, sweep)
    return any(summary["status"] == "FAILED" for summary in summaries)
