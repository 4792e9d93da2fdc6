"""What can be known of a job before it starts, and is tried then, so that it leaves no failed MLflow run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.paths import make_folder
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.detectors import has_random_weights


def check_writable(*folders: Path) -> None:
    """Create folders where there are none, and check that files can be made in them.

    Raises:
        UserError: one cannot be made.
        PermissionError: one may not be written.
    """
    for folder in folders:
        try:
            make_folder(folder)
        except PermissionError:
            raise
        except OSError as error:
            reason = f"{error.strerror}: '{error.filename}'"
            raise UserError(f"folder '{folder}' cannot be made ({reason}): name another one") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_trained(model: ModelOptions, purpose: str) -> None:
    """Raise `UserError` for a model with random weights, whose boxes mean nothing, where boxes are the purpose."""
    if has_random_weights(model):
        raise UserError(
            f"model.weights={model.weights}: {model.name} has random weights, and {purpose}: give a file of weights"
        )
