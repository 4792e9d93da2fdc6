"""Room for the results of a run: its folder, the MLflow store and the artifacts may lie on different disks."""

from __future__ import annotations

import time
from pathlib import Path

from vitmalis.disk_space import LOW_FREE_BYTES, MIN_FREE_BYTES, check_space
from vitmalis_jobs.common.config import MlflowOptions
from vitmalis_jobs.common.tracking_address import resolve_address

_INTERVAL_S = 2.0


class Room:
    """The disks of a run; on creation they are asked whether a run can start.

    Args:
        directory: the run's folder.
        mlflow: where its store and artifacts are.

    Raises:
        UserError: one of them is as good as full.
    """

    def __init__(self, directory: Path, mlflow: MlflowOptions) -> None:
        self._places = {"run folder": directory}
        database, _ = resolve_address(mlflow.tracking_uri)
        if database is not None:  # a server has disks of its own
            self._places |= {"MLflow store": database.parent, "artifact folder": Path(mlflow.artifact_dir)}
        self._check(MIN_FREE_BYTES)

    def check(self) -> None:
        """Check, at most every two seconds, whether the run can go on; raises `UserError` if it cannot."""
        if time.monotonic() >= self._due_s:
            self._check(LOW_FREE_BYTES)

    def _check(self, needed_bytes: int) -> None:
        for what, folder in self._places.items():
            check_space(what, folder, needed_bytes)
        self._due_s = time.monotonic() + _INTERVAL_S
