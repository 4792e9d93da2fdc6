"""The command line of `evaluate.py`: Hydra composes the runs, and each run is handed to the pipeline.

A user's mistake is one line, a bug keeps its traceback. The pipeline is imported inside functions, so that help and
mistakes do not wait for torch and MLflow.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import USER_ERRORS, job_process, multirun_first, print_error, refuse_chdir
from vitmalis_jobs.common.config import choices_named, conf_dir
from vitmalis_jobs.common.storage_errors import storage_errors
from vitmalis_jobs.evaluation.sweep import Sweep, SweepRefused, current_sweep, position_in_sweep, run_directory
from vitmalis_jobs.run.directory import RunDirectory, RunInProgress

if TYPE_CHECKING:
    from vitmalis_jobs.run.config import EvaluationConfig
    from vitmalis_jobs.run.resources import Resources


def main() -> int:
    """Run what the command line asks for; returns the exit status: 0, 2 for a user's mistake, 130 if interrupted."""
    with job_process():
        return _main()


def _main() -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets exceptions through to here
    multirun_first()
    command = EvaluateCommand(returns_to_deferred=True)
    interrupted = False
    with current_sweep() as sweep:
        try:
            with storage_errors(), choices_named(sys.argv[1:]):
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="evaluate")(command.run)()
            command.run_deferred()
        except (*USER_ERRORS, SweepRefused) as error:
            command.report(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            interrupted = True
        finally:
            failed = _close(sweep, command, interrupted)
    if interrupted:
        return 130
    return 2 if failed else 0


def _close(sweep: Sweep, command: EvaluateCommand, interrupted: bool) -> bool:
    """Compare the runs of a sweep and end its MLflow run; returns whether anything failed."""
    failed = command.failed
    if sweep.directory is not None:
        failed = sweep.print_comparison() or failed or sys.exc_info()[0] is not None
        sweep.close(interrupted, failed)
    return failed


class EvaluateCommand:
    """Makes the runs of one command, one after the other.

    A launcher pickles it for its workers; there it starts without shared resources and without deferred runs.

    Args:
        returns_to_deferred: whether runs that another process is making are looked after at the end; a launcher's
            worker waits for them instead.

    Attributes:
        failed: whether a mistake was reported.
    """

    def __init__(self, returns_to_deferred: bool = False) -> None:
        self.failed = False
        self._returns_to_deferred = returns_to_deferred
        self._deferred: list[tuple[EvaluationConfig, RunDirectory]] = []
        self._resources: Resources | None = None

    def __reduce__(self) -> tuple[type[EvaluateCommand], tuple[()]]:
        return EvaluateCommand, ()

    def run(self, config: DictConfig) -> float | None:
        """Make one run of the command; returns its rendering F1, for sweepers that optimise.

        A user's mistake is reported here and does not reach Hydra, so that a sweep goes on with its next run.
        """
        with job_process():  # also in a launcher's worker
            return self._run(config)

    def _run(self, config: DictConfig) -> float | None:
        from vitmalis_jobs.run.config import typed

        hydra_config = HydraConfig.get()
        directory, here = run_directory(hydra_config), Path(hydra_config.runtime.cwd)
        try:
            refuse_chdir()
        except UserError as error:
            if not self._returns_to_deferred:
                raise  # what a launcher's worker reports would not reach the sweep
            self.report(error)
            directory.discard(here)
            return None
        check_working_directory(here)
        if position := position_in_sweep(directory.number):
            print(position, flush=True)
        try:
            with directory.summary_on_failure():
                options = typed(config)
                return self._evaluate(options, directory, wait=not self._returns_to_deferred)
        except USER_ERRORS as error:
            self.report(error)
            directory.discard(here)
        except RunInProgress:
            self._deferred.append((options, directory))
        return None

    def run_deferred(self) -> None:
        """Take over the runs that other processes were making; make those that they did not finish."""
        for options, directory in self._deferred:
            try:
                with directory.summary_on_failure():
                    self._evaluate(options, directory, wait=True)
            except USER_ERRORS as error:
                self.report(error)

    def report(self, error: BaseException) -> None:
        """Print a user's mistake, and remember that there was one."""
        self.failed = True
        print_error(error, "evaluate")

    def _evaluate(self, options: EvaluationConfig, directory: RunDirectory, wait: bool) -> float | None:
        from vitmalis_jobs.run.pipeline import run_evaluation
        from vitmalis_jobs.run.resources import Resources, worker_resources

        if self._resources is None:
            self._resources = Resources() if self._returns_to_deferred else worker_resources()
        return run_evaluation(options, directory, self._resources, wait=wait).get("rendering_f1")


def check_working_directory(started: Path) -> None:
    """Raise `UserError` for a launcher's worker in another folder, where relative paths mean other files."""
    if Path.cwd().resolve() != started.resolve():
        raise UserError(
            f"this worker runs in {Path.cwd()}, the sweep in {started}: start workers there (docs/cluster.md)"
        )
