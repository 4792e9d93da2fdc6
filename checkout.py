"""What the commands of this checkout check first: that this Python has the packages that they run."""

import sys
from importlib.util import find_spec

REQUIRED = ("vitmalis_jobs", "hydra", "mlflow", "torch")
"""This repository as `make install` installs it, and a package of each group of dependencies that every job needs."""


def require_environment() -> None:
    """End with exit status 2 and one line that says what to run, where this Python lacks a package."""
    if missing := next((name for name in REQUIRED if find_spec(name) is None), None):
        print(
            f"error: {sys.executable} has no module '{missing}': run `make install`, then `source .venv/bin/activate`",
            file=sys.stderr,
        )
        sys.exit(2)
