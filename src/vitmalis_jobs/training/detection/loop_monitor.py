"""What happens next to the optimisation of any model: log lines, curves in MLflow, checkpoints, evaluations."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from pathlib import Path

from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.training.detection.config import LoopOptions
from vitmalis_jobs.training.detection.state import LAST, TrainingState
from vitmalis_jobs.training.detection.step_log import StepLog
from vitmalis_jobs.training.detection.trainer import StepReport

log = logging.getLogger(__name__)


class LoopMonitor(ABC):
    """Logs, checkpoints and evaluates a training run, each at its own interval.

    Args:
        options: of the loop.
        state: of the run; its counters are read.
        run: MLflow run that curves go to.
        folder: for checkpoints.
    """

    def __init__(self, options: LoopOptions, state: TrainingState, run: Run, folder: Path) -> None:
        self.state, self.run, self.folder = state, run, folder
        self._options = options
        self._steps = StepLog(state.step)
        self._progress = 0.0
        self._saved_s = self._evaluated_s = time.monotonic()

    @abstractmethod
    def evaluate(self) -> object:
        """Score the moving average, and export it if it is the best so far."""

    def after_step(self, report: StepReport) -> None:
        """Do what is due after a batch.

        Raises:
            UserError: a loss was not finite in one of the last steps.
        """
        self._steps.add(report)
        self._progress = report.progress
        options, now_s = self._options, time.monotonic()
        if self.state.step % options.log_every_steps == 0:
            self._log_means()
        if now_s - self._saved_s >= options.checkpoint_every_s:
            self.checkpoint()
        if now_s - self._evaluated_s >= options.evaluate_every_s:
            self.evaluate()
            self._evaluated_s = time.monotonic()

    def _log_means(self) -> None:
        """Log the means since the last line, and the time left."""
        means = self._steps.means()
        if not means:
            return
        log.info(
            "step %6d  %5.1f %%  left %4s min  %s",
            self.state.step,
            100 * self._progress,
            f"{self.state.seconds / 60 * (1 / self._progress - 1):.0f}" if self._progress else "?",
            "  ".join(f"{name} {value:.4g}" for name, value in means.items()),
        )
        for name, value in means.items():
            self.run.log_curve(f"train/{name}", [self.state.step], [value])

    def checkpoint(self) -> None:
        """Save the state, from which the next start of the job continues.

        Raises:
            UserError: a loss was not finite in one of the last steps; the former checkpoint stays.
        """
        self._log_means()
        self.state.save(self.folder / LAST)
        self._saved_s = time.monotonic()
