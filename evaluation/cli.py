"""The command line of `evaluate.py`: one clear line for a user's mistake, a traceback for ours.

Imports are kept light here, so that help and mistakes need not wait for torch or MLflow.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from evaluation.sweep import RunPlace, SweepCallback, print_comparison
from vitmalis.errors import UserError

MISTAKES = (HydraException, OmegaConfBaseException, UserError)
CONF_DIR = Path(__file__).resolve().parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="evaluate")
def run(config: DictConfig) -> float | None:
    """One evaluation; returns its rendering F1, for sweepers that optimise.

    A user's mistake is told here and does not reach Hydra, which would add lines of its own; a sweep goes on after it.
    """
    place = RunPlace.of(HydraConfig.get())
    try:
        with place.summary_on_failure():
            from evaluation.config import typed

            options = typed(config)
            from evaluation.job import evaluate

            return evaluate(options, place).get("rendering_f1")
    except MISTAKES as error:
        _tell(error)
        return None


def main() -> int:
    """Run what the command line asks for; returns the exit status: 0, 2 for a user's mistake, 130 if interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here as they are
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: in order, like Ctrl-C
    _told.clear()
    try:
        run()
    except MISTAKES as error:
        _tell(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        failed = SweepCallback.directory is not None and print_comparison(SweepCallback.directory)
    return 2 if _told or failed else 0


_told: list[str] = []
"""Mistakes told so far."""


def _tell(error: Exception) -> None:
    _told.append(one_line(error))
    print(f"error: {_told[-1]}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """What went wrong and what would go right, in one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name} is unknown: choose one of {', '.join(error.options)}"
    text = re.sub(r"\n\s*(full_key|object_type|See https|Config search path).*", "", str(error), flags=re.DOTALL)
    found = re.match(r"Could not override '([^']+)'", text)
    if found:
        return f"there is no option '{found[1]}': see python evaluate.py --cfg job for all there are"
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
