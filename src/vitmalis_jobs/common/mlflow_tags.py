"""The tags by which MLflow shows who made a run, with which program, from which commit, when, and for which sweep."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from pathlib import Path

from vitmalis_jobs.common.machine import git_commit

PARENT = "mlflow.parentRunId"
"""Tag with the id of the run of the sweep that a run belongs to."""
STARTED = "started"
"""Tag with the local time at which a run started, as text that sorts by time."""
_DIRTY = "-dirty"


def standard_tags() -> dict[str, str]:
    """The tags of a run that this process makes."""
    tags = {"mlflow.user": _user(), "mlflow.source.name": _program(), "mlflow.source.type": "LOCAL"}
    tags[STARTED] = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    commit = git_commit().removesuffix(_DIRTY)
    return tags if commit == "unknown" else tags | {"mlflow.source.git.commit": commit}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "unknown"


def _program() -> str:
    """`evaluate.py`, `vitmalis report`, or the module that `python -m` runs."""
    program = sys.argv[0]
    if program.startswith("vitmalis "):
        return program
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return Path(program).name if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"
