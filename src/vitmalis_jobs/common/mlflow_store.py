"""MLflow store of runs, safe for processes that start together and for processes that are killed.

A run records the process that makes it, and a heartbeat while it lasts. The next process that opens the store marks
runs as KILLED whose process is gone, or is out of sight and has sent no heartbeat for long.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmalis.errors import UserError
from vitmalis.locks import file_lock
from vitmalis.paths import atomic_path, share_with_group
from vitmalis_jobs.common.artifact_location import place_artifacts
from vitmalis_jobs.common.background import in_background
from vitmalis_jobs.common.mlflow_experiment import NOTE, describe_experiment
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.mlflow_tags import PARENT, standard_tags
from vitmalis_jobs.common.run_process import HEARTBEAT_S, alive, process_tags
from vitmalis_jobs.common.signals import deferred_signals
from vitmalis_jobs.common.storage_errors import noted_on
from vitmalis_jobs.common.tracking_address import SQLITE, check_server, resolve_address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_DEFAULT = "0"  # the experiment that MLflow makes with every store
RETRIES_S = (0.5, 2.0)
"""Pauses after which the status of a run that has ended is set again where that failed."""
_RESERVED_BYTES = 2**20
"""Space on the disk of a SQLite store that is kept for the status of a run that fills the disk up."""


class Store:
    """An experiment in an MLflow tracking store.

    Args:
        tracking_uri: `sqlite:///path` (created if absent) or the address of an MLflow server.
        experiment: name of the experiment (created if absent).
        artifact_dir: folder for the artifacts of a SQLite store; a server keeps its own.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_dir: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        database, uri = resolve_address(tracking_uri)
        self._database = database
        check_server(tracking_uri)
        path = database or artifact_dir / "store"
        lock = file_lock(path.with_name(f"{path.name}.lock"))
        if database and database.exists() and not os.access(database, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))
        try:
            with lock:  # MLflow creates its experiments without one
                if database and not database.exists():
                    _create_database(database, artifact_dir)
                self.client: MlflowClient = MlflowClient(tracking_uri=uri)
                location = artifact_dir.resolve().as_uri() if database else None
                found = self._experiment(experiment, location)
                self.experiment_id: str = found.experiment_id
                if database:
                    share_with_group(database)
                    relative = not Path(tracking_uri.removeprefix(SQLITE)).is_absolute()
                    for experiment_id in (_DEFAULT, self.experiment_id):
                        place_artifacts(database, experiment_id, artifact_dir.absolute(), relative)
                describe_experiment(self.client, found, database)
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"mlflow.tracking_uri={tracking_uri}: cannot open the store: {reason}") from error
        self.name = f"{tracking_uri} {experiment}"
        self._end_dead_runs()

    def _experiment(self, name: str, location: str | None) -> Experiment:
        """The experiment, created if there is none; on a server, another machine may be creating it right now."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.get_experiment(self.client.create_experiment(name, location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise UserError(
                f"mlflow.experiment={name}: that experiment was deleted: restore it (`mlflow experiments restore "
                f"--experiment-id {found.experiment_id if found else '...'}`) or choose another name"
            )
        return found

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Record one run: FINISHED on success, KILLED on an interruption, FAILED on any other exception."""
        run: Run | None = None
        status, first = "FAILED", None
        try:
            with deferred_signals():
                all_tags = {**standard_tags(), **tags, **process_tags()}
                info = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags).info
                run = Run(self.client, info, self.name)
            with self._heartbeat(run.run_id, tags.get(PARENT, "")), self._reserved_space():
                yield run
            status = "FINISHED"
        except BaseException as error:
            first = error
            if not isinstance(error, Exception):
                status = "KILLED"
            elif run is not None:
                with noted_on(error, "the run has no tag 'error'"):
                    run.tag({"error": f"{type(error).__name__}: {error}"[:500]})
            raise
        finally:
            if run is not None and not run.finished:
                with deferred_signals(), noted_on(first, f"the run is not marked as {status}"):
                    self._set_terminated(run.run_id, status)

    def _set_terminated(self, run_id: str, status: str) -> None:
        """Set the status of a run that has ended; tried again, because a full disk or a server may recover."""
        for pause_s in RETRIES_S:
            with suppress(Exception):
                self.client.set_terminated(run_id, status)
                return
            time.sleep(pause_s)
        self.client.set_terminated(run_id, status)

    def finish(self, run_id: str) -> bool:
        """Set a run's status to FINISHED if it is not; false if the store does not hold the run or it is deleted."""
        info = self._info(run_id)
        if info is None or info.lifecycle_stage != "active":
            return False
        if info.status != "FINISHED":
            self.client.set_terminated(run_id, "FINISHED")
        return True

    def create_parent(self, name: str, tags: Mapping[str, str]) -> str:
        """Create the parent run of a sweep, which stays open until `end`; returns its id."""
        all_tags = {**standard_tags(), **tags, **process_tags()}
        return str(self.client.create_run(self.experiment_id, run_name=name, tags=all_tags).info.run_id)

    def reopen(self, run_id: str) -> bool:
        """Continue the parent run of a sweep from this process; false if the store no longer has it."""
        info = self._info(run_id)
        if info is None or info.lifecycle_stage != "active":
            return False
        Run(self.client, info, self.name).tag(process_tags())
        self.client.update_run(run_id, status="RUNNING")
        return True

    def end(self, run_id: str, status: str, metrics: Mapping[str, float], note: str) -> None:
        """Log the metrics and the description of a sweep's parent run, and close it with a status."""
        info = self._info(run_id)
        if info is not None:
            run = Run(self.client, info, self.name)
            run.log_metrics(metrics)
            run.tag({NOTE: note})
            self.client.set_terminated(run_id, status)

    def delete(self, run_id: str) -> None:
        """Move a run to MLflow's deleted ones."""
        self.client.delete_run(run_id)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run that is no longer being written."""
        info = self._info(run_id)
        if info is not None:
            Run(self.client, info, self.name).tag(tags)

    def _info(self, run_id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id).info if run_id else None
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    @contextmanager
    def _heartbeat(self, run_id: str, parent_id: str) -> Iterator[None]:
        """Send a heartbeat for a run and its parent, which has no other, from time to time inside the block."""

        def beat(ended: threading.Event) -> None:
            beating = [parent_id]  # the run's own first heartbeat is among its tags
            while True:
                for each in filter(None, beating):
                    with suppress(Exception):  # a server that is unreachable for a moment does not end a run
                        self.client.set_tag(each, "process.heartbeat", f"{time.time():.0f}")
                if ended.wait(HEARTBEAT_S):
                    return
                beating = [parent_id, run_id]

        with in_background(beat, "mlflow heartbeat", daemon=True):
            yield

    @contextmanager
    def _reserved_space(self) -> Iterator[None]:
        """Take space on the disk of a SQLite store, which the end of the block frees, or that of the process."""
        if self._database is None:
            yield
            return
        with tempfile.TemporaryFile(dir=self._database.parent, buffering=0) as file:
            file.write(os.urandom(_RESERVED_BYTES))  # zeros take no space on some file systems
            yield

    def _end_dead_runs(self) -> None:
        """Mark runs whose process is gone (killed outright, power cut) as KILLED, those of other experiments too."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        for run in self.client.search_runs(experiments, "attributes.status = 'RUNNING'"):
            # Checked again once its process is known to be gone: it may have finished since the search.
            if not alive(run.data.tags) and self._running(run.info.run_id):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _running(self, run_id: str) -> bool:
        info = self._info(run_id)
        return info is not None and info.status == "RUNNING"


def _create_database(database: Path, artifact_dir: Path) -> None:
    """Create MLflow's tables in a file that appears when it is whole: no MLflow can open a half-made one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with atomic_path(database) as temporary:
        store = SqlAlchemyStore(f"{SQLITE}{temporary}", artifact_dir.resolve().as_uri())
        store.engine.dispose()
