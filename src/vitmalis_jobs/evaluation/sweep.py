"""Several runs at once: where each leaves its result, what they have in common, and the table that compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConf
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis_jobs.run.directory import RunDirectory, read_summaries

MAX_ROWS = 60
"""Runs that a person compares in one table; more are counted."""


class SweepRefused(BaseException):
    """A sweep cannot start. Hydra turns the exceptions of a callback into warnings; this is none of them."""


def run_directory(hydra: HydraConf) -> RunDirectory:
    """The place of a run as Hydra has arranged it."""
    swept = hydra.mode == RunMode.MULTIRUN
    return RunDirectory(
        directory=Path(hydra.runtime.output_dir),
        sweep=Path(hydra.sweep.dir) if swept else None,
        number=int(hydra.job.num) if swept else 0,
        overrides=tuple(hydra.overrides.task),
    )


class SweepCallback(Callback):
    """Hydra's callback at the start of a sweep. Its end is handled in `cli.py`, which also sees interruptions."""

    directory: ClassVar[Path | None] = None
    config: ClassVar[DictConfig | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder, and open its MLflow run.

        Raises:
            SweepRefused: the folder belongs to another sweep, or the MLflow store cannot be opened.
        """
        from vitmalis_jobs.evaluation.parent import open_parent

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


def print_comparison(sweep: Path) -> bool:
    """Print one table of all runs of a sweep, nothing if none got far enough; returns whether any failed."""
    summaries = read_summaries(sweep)
    if summaries:
        from vitmalis_jobs.common.console import Terminal

        if len(summaries) <= MAX_ROWS:
            Terminal().comparison(summaries, sweep)
        else:
            Terminal().tally(summaries, sweep)
    return any(summary["status"] == "FAILED" for summary in summaries)
