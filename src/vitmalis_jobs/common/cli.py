"""The frame of every job's command line: one line for a user's mistake, exit statuses that scripts can rely on.

Exit statuses: 0 done, 1 a bar of the job was missed, 2 a user's mistake, 130 interrupted. Any other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from vitmalis.errors import UserError

USER_ERRORS = (HydraException, OmegaConfBaseException, UserError)
"""Exceptions that a user can mend."""


def run_job(job: Callable[[], object]) -> int:
    """Run a job and return the exit status of its process.

    Args:
        job: does the work; returns False where a bar was missed, anything else where all is well.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets exceptions through to here
    try:
        return 1 if job() is False else 0
    except USER_ERRORS as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def print_error(error: BaseException) -> None:
    """Print a user's mistake as one line on standard error."""
    print(f"error: {error_line(error)}", file=sys.stderr)


def error_line(error: BaseException) -> str:
    """What is wrong and how to put it right, in one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name} is unknown: choose one of {', '.join(error.options)}"
    text = re.sub(r"\n\s*(full_key|object_type|See https|Config search path).*", "", str(error), flags=re.DOTALL)
    found = re.match(r"Could not override '([^']+)'", text)
    if found:
        return f"there is no option '{found[1]}': see python evaluate.py --cfg job for all there are"
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
