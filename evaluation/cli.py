"""The command line of `evaluate.py`: one clear line for a user's mistake, a traceback for ours.

Imports are kept light here, so that help and mistakes need not wait for torch or MLflow.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from evaluation.sweep import RunElsewhere, RunPlace, SweepCallback, SweepRefused, print_comparison
from vitmalis.errors import UserError

if TYPE_CHECKING:
    from evaluation.config import EvaluationConfig

MISTAKES = (HydraException, OmegaConfBaseException, UserError)
CONF_DIR = Path(__file__).resolve().parents[1] / "conf"


def composed(overrides: Sequence[str]) -> EvaluationConfig:
    """The configuration that `evaluate.py` would run with these options, for jobs that plan runs themselves.

    Raises:
        HydraException, UserError: they cannot be composed, or are not what they should be.
    """
    from evaluation.config import typed

    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return typed(hydra.compose("evaluate", overrides=list(overrides)))


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="evaluate")
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
    place = RunPlace.of(hydra_config)
    try:
        with place.summary_on_failure():
            from evaluation.config import typed

            return _evaluate(typed(config), place, wait=not _state.comes_back)
    except MISTAKES as error:
        _tell(error)
    except RunElsewhere:
        from evaluation.config import typed

        _state.later.append((typed(config), place))
    return None


def main() -> int:
    """Run what the command line asks for; returns the exit status: 0, 2 for a user's mistake, 130 if interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here as they are
    paths = [str(CONF_DIR.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # a launcher's workers import from here, too
    _end_in_order()
    _state.told.clear()
    _state.later.clear()
    _state.comes_back = True
    interrupted, failed = False, False
    try:
        run()
        _make_the_rest()
    except (*MISTAKES, SweepRefused) as error:
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


def _evaluate(options: EvaluationConfig, place: RunPlace, wait: bool) -> float | None:
    from evaluation.job import evaluate

    return evaluate(options, place, wait=wait).get("rendering_f1")


def _make_the_rest() -> None:
    """Take over what other processes were making when this one came by; make it if they did not."""
    for options, place in _state.later:
        try:
            with place.summary_on_failure():
                _evaluate(options, place, wait=True)
        except MISTAKES as error:
            _tell(error)


def _close(directory: Path, interrupted: bool, failed: bool) -> None:
    from evaluation.parent import close_parent

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
    later: list[tuple[EvaluationConfig, RunPlace]] = field(default_factory=list)
    comes_back: bool = False


_state = _State()


def _tell(error: BaseException) -> None:
    _state.told.append(one_line(error))
    print(f"error: {_state.told[-1]}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """What went wrong and what would go right, in one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name} is unknown: choose one of {', '.join(error.options)}"
    text = re.sub(r"\n\s*(full_key|object_type|See https|Config search path).*", "", str(error), flags=re.DOTALL)
    found = re.match(r"Could not override '([^']+)'", text)
    if found:
        return f"there is no option '{found[1]}': see python evaluate.py --cfg job for all there are"
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
