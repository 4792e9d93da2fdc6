"""The runs that checks make themselves, from options of `evaluate.py`."""

from __future__ import annotations

from collections.abc import Sequence

from vitmalis_jobs.common.console import Terminal
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
