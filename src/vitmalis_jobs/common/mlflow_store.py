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
from vitmalis_jobs.common.run_process import HEARTBEAT_S, alive, process_tags
from vitmalis_jobs.common.signals import deferred_signals
from vitmalis_jobs.common.storage_errors import noted_on
from vitmalis_jobs.common.tracking_address import check_server, resolve_address

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_PARAM_LIMIT = 6000
_BATCH = 100
_PARENT = "mlflow.parentRunId"
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
                self.experiment_id: str = self._experiment(experiment, location)
                if database:
                    share_with_group(database)
                    relative = not Path(tracking_uri.removeprefix(_SQLITE)).is_absolute()
                    for experiment_id in (_DEFAULT, self.experiment_id):
                        place_artifacts(database, experiment_id, artifact_dir.absolute(), relative)
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"mlflow.tracking_uri={tracking_uri}: cannot open the store: {reason}") from error
        self.name = f"{tracking_uri} {experiment}"
        self._end_dead_runs()

    def _experiment(self, name: str, location: str | None) -> str:
        """Id of the experiment, created if there is none; on a server, another machine may be creating it right now."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise UserError(
                f"mlflow.experiment={name}: that experiment was deleted: restore it (`mlflow experiments restore "
                f"--experiment-id {found.experiment_id if found else '...'}`) or choose another name"
            )
        return str(found.experiment_id)

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Record one run: FINISHED on success, KILLED on an interruption, FAILED on any other exception."""
        run: Run | None = None
        status, first = "FAILED", None
        try:
            with deferred_signals():
                all_tags = {**tags, **process_tags()}
                info = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags).info
                run = Run(self.client, info, self.name)
            with self._heartbeat(run.run_id, tags.get(_PARENT, "")), self._reserved_space():
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
        all_tags = {**tags, **process_tags()}
        return str(self.client.create_run(self.experiment_id, run_name=name, tags=all_tags).info.run_id)

    def reopen(self, run_id: str) -> bool:
        """Continue the parent run of a sweep from this process; false if the store no longer has it."""
        info = self._info(run_id)
        if info is None or info.lifecycle_stage != "active":
            return False
        Run(self.client, info, self.name).tag(process_tags())
        self.client.update_run(run_id, status="RUNNING")
        return True

    def end(self, run_id: str, status: str, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a sweep's parent run and close it with a status."""
        info = self._info(run_id)
        if info is not None:
            Run(self.client, info, self.name).log_metrics(metrics)
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
        ended = threading.Event()

        def beat() -> None:
            beating = [parent_id]  # the run's own first heartbeat is among its tags
            while True:
                for each in filter(None, beating):
                    with suppress(Exception):  # a server that is unreachable for a moment does not end a run
                        self.client.set_tag(each, "process.heartbeat", f"{time.time():.0f}")
                if ended.wait(HEARTBEAT_S):
                    return
                beating = [parent_id, run_id]

        thread = threading.Thread(target=beat, name="mlflow heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

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
        """Mark runs whose process is gone (killed outright, power cut) as KILLED."""
        for run in self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'"):
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
        store = SqlAlchemyStore(f"{_SQLITE}{temporary}", artifact_dir.resolve().as_uri())
        store.engine.dispose()


class Run:
    """One MLflow run being written.

    Attributes:
        run_id, name: of the run.
        store_name: tracking address and experiment that hold it.
        finished: whether its status was set to FINISHED.
    """

    def __init__(self, client: MlflowClient, info: Any, store_name: str) -> None:
        self._client = client
        self.run_id: str = info.run_id
        self.name: str = info.run_name
        self.store_name = store_name
        self.finished = False

    def finish(self) -> None:
        """Set the run's status to FINISHED."""
        self._client.set_terminated(self.run_id, "FINISHED")
        self.finished = True

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of this run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters, `section.key` to value; long values are cut."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in params.items()]
        for start in range(0, len(entries), _BATCH):
            self._client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log one value for each metric."""
        self._log([(key, value, 0) for key, value in metrics.items()])

    def log_curve(self, key: str, steps: list[int], values: list[float]) -> None:
        """Log one metric over whole-number steps."""
        self._log([(key, value, step) for step, value in zip(steps, values, strict=True)])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file into the run's artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def _log(self, entries: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, step) for key, value, step in entries]
        for start in range(0, len(metrics), 10 * _BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 10 * _BATCH])
