"""The runs that checks make themselves, from options of `evaluate.py`."""

from __future__ import annotations

from collections.abc import Sequence

from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.spec import PreparedRun


def prepared_run(overrides: Sequence[str], terminal: Terminal) -> PreparedRun:
    """Compose, resolve and prepare a run.

    Raises:
        UserError: the run that the overrides describe cannot be made.
    """
    return prepare_run(resolve_run(composed(overrides)), terminal)
