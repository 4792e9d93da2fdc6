"""Evaluations from Python: what `evaluate.py` does, for notebooks and other programs.

from vitmalis_jobs.api import evaluate

run = evaluate("policy=vitmalis", "clock=virtual", "eval.seconds=5")
run.metrics["rendering_f1"], run.records.offloads
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hydra.errors import HydraException

from vitmalis.errors import UserError
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import is_busy
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.pipeline import run_evaluation
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.resources import Resources

SWEEPS = ("clips=", "experiment=")
"""Beginnings of options that choose the runs of a sweep."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """An evaluation that has finished.

    Attributes:
        directory: the run's folder, with its records, plots and video.
        metrics: its metrics by name, such as `rendering_f1` and `e2e_latency_s_median`.
    """

    directory: Path
    metrics: dict[str, float]

    @property
    def busy(self) -> bool:
        """Whether the machine was too busy or slow for the run, so that its result cannot be trusted."""
        return is_busy(self.metrics)

    @property
    def records(self) -> RunRecords:
        """One row per frame and per offload."""
        return read_records(self.directory)


def evaluate(
    *overrides: str, directory: Path | None = None, resources: Resources | None = None, terminal: Terminal | None = None
) -> FinishedRun:
    """Make one run with the options of `evaluate.py`.

    Args:
        overrides: options such as `policy=vitmalis` or `eval.seconds=5`.
        directory: for the results; None for one named by the time, below `runs/evaluations`.
        resources: shared by runs that follow each other, so that the model is loaded once.
        terminal: shows facts, progress and results; None for standard output.

    Raises:
        HydraException, UserError: an option is wrong, asks for a sweep, or needs something that a user can provide.
    """
    for override in overrides:
        if override.lstrip("+").startswith(SWEEPS):
            raise UserError(
                f"{override} makes a sweep, and this one run: use the command, python evaluate.py {override}"
            )
    path = directory or Path("runs") / "evaluations" / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}"
    place = RunDirectory(path, overrides=overrides)
    try:
        with place.summary_on_failure():
            return FinishedRun(path, run_evaluation(composed(overrides), place, resources, terminal))
    except (HydraException, UserError):
        if directory is None:
            place.discard(Path.cwd())
        raise
