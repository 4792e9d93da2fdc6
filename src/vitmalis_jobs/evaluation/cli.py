"""The command line of `evaluate.py`: one clear line for a user's mistake, a traceback for ours.

Imports are kept light here, so that help and mistakes need not wait for torch or MLflow.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.evaluation.sweep import SweepCallback, SweepRefused, print_comparison, run_directory
from vitmalis_jobs.run.directory import RunDirectory, RunInProgress

if TYPE_CHECKING:
    from vitmalis_jobs.run.config import EvaluationConfig


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="evaluate")
def run(config: DictConfig) -> float | None:
    """One evaluation; returns its rendering F1, for sweepers that optimise.

    A launcher's workers are given this function by value, what it calls by name: it holds nothing.
    """
    return evaluate_one(config)


def evaluate_one(config: DictConfig) -> float | None:
    """Evaluate here or in a launcher's worker process.

    A user's mistake is told here and does not reach Hydra, which would add lines of its own; a sweep goes on after it.
    """
    _end_in_order()
    hydra_config = HydraConfig.get()
    _check_place(Path(hydra_config.runtime.cwd))
    place = run_directory(hydra_config)
    try:
        with place.summary_on_failure():
            from vitmalis_jobs.run.config import typed

            return _evaluate(typed(config), place, wait=not _state.comes_back)
    except USER_ERRORS as error:
        _tell(error)
    except RunInProgress:
        from vitmalis_jobs.run.config import typed

        _state.later.append((typed(config), place))
    return None


def main() -> int:
    """Run what the command line asks for; returns the exit status: 0, 2 for a user's mistake, 130 if interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here as they are
    _end_in_order()
    _state.told.clear()
    _state.later.clear()
    _state.comes_back = True
    interrupted, failed = False, False
    try:
        run()
        _make_the_rest()
    except (*USER_ERRORS, SweepRefused) as error:
        _tell(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        interrupted = True
    finally:
        directory = SweepCallback.directory
        if directory is not None:
            failed = print_comparison(directory) or bool(_state.told) or sys.exc_info()[0] is not None
            _close(directory, interrupted, failed)
    if interrupted:
        return 130
    return 2 if _state.told or failed else 0


def _check_place(started: Path) -> None:
    """Relative paths mean the same here and where the sweep was started, or results would lie where nobody looks."""
    if Path.cwd().resolve() != started.resolve():
        raise UserError(
            f"this worker runs in {Path.cwd()}, the sweep in {started}: start workers there (docs/cluster.md)"
        )


def _evaluate(options: EvaluationConfig, place: RunDirectory, wait: bool) -> float | None:
    from vitmalis_jobs.run.evaluate import evaluate

    return evaluate(options, place, wait=wait).get("rendering_f1")


def _make_the_rest() -> None:
    """Take over what other processes were making when this one came by; make it if they did not."""
    for options, place in _state.later:
        try:
            with place.summary_on_failure():
                _evaluate(options, place, wait=True)
        except USER_ERRORS as error:
            _tell(error)


def _close(directory: Path, interrupted: bool, failed: bool) -> None:
    from vitmalis_jobs.evaluation.parent import close_parent

    if SweepCallback.config is not None:
        close_parent(directory, SweepCallback.config.mlflow, interrupted, failed)


def _end_in_order() -> None:
    """Ended from outside (a scheduler's SIGTERM): as by Ctrl-C, unless a launcher has its own way."""
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass
class _State:
    """Of this process.

    Attributes:
        told: mistakes told so far.
        later: runs that another process was making.
        comes_back: whether this process looks after them when all others are done; a launcher's worker does not.
    """

    told: list[str] = field(default_factory=list)
    later: list[tuple[EvaluationConfig, RunDirectory]] = field(default_factory=list)
    comes_back: bool = False


_state = _State()


def _tell(error: BaseException) -> None:
    _state.told.append(error_line(error))
    print(f"error: {_state.told[-1]}", file=sys.stderr)
