"""The runs that checks make, from options of `evaluate.py`: in this process, or by a command with its own store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run.checks import prepare_checked
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun


def prepared_run(overrides: Sequence[str], terminal: Terminal, resources: Resources | None = None) -> PreparedRun:
    """Compose, resolve, check and prepare a run; `resources` are those that it shares with others of this process.

    Raises:
        UserError: the run that the overrides describe cannot be made.
    """
    return prepare_checked(resolve_run(composed(overrides)), terminal, resources)


def evaluate_command(folder: Path, overrides: Sequence[str]) -> list[str]:
    """A command of `evaluate.py` whose store, artifacts and run index are in a folder; see `own_store`."""
    places = [
        f"mlflow.tracking_uri=sqlite:///{folder}/mlflow.db",
        f"mlflow.artifact_dir={folder}/artifacts",
        f"sweep.index={folder}/index",
    ]
    return [sys.executable, "-m", "vitmalis_jobs.evaluation", *overrides, *places]


def own_store(folder: Path) -> Store:
    """Open the store of the commands of `evaluate_command`."""
    return Store(f"sqlite:///{folder}/mlflow.db", "evaluation", folder / "artifacts")
