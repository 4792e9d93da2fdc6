"""The MLflow store: made once however many processes start together, and no run left RUNNING that no longer runs."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from vitmalis.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_PARAM_LIMIT = 6000
_BATCH = 100


class Store:
    """An experiment in an MLflow tracking store.

    Args:
        tracking_uri: `sqlite:///path` (made if absent) or the address of an MLflow server.
        experiment: name of the experiment (made if absent).
        artifact_dir: folder for the artifacts of a SQLite store; a server keeps its own.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_dir: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        database = Path(tracking_uri.removeprefix(_SQLITE)) if tracking_uri.startswith(_SQLITE) else None
        lock = _lock_beside(database or artifact_dir / "store")
        # SQLite lets one writer in at a time: parallel runs wait for each other instead of failing after 5 s.
        uri = f"{tracking_uri}?timeout=60" if database and "?" not in tracking_uri else tracking_uri
        try:
            with lock:  # MLflow creates its tables and experiments without one
                self.client: MlflowClient = MlflowClient(tracking_uri=uri)
                location = artifact_dir.resolve().as_uri() if database else None
                found = self.client.get_experiment_by_name(experiment)
                self.experiment_id: str = (
                    found.experiment_id if found else self.client.create_experiment(experiment, location)
                )
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"mlflow.tracking_uri={tracking_uri}: cannot open the store: {reason}") from error
        self._end_dead_runs()

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Record one run: FINISHED on success, KILLED on an interruption, FAILED on any other exception."""
        run: Run | None = None
        status = "FAILED"
        try:
            with deferred_signals():
                all_tags = {**tags, **_process_tags()}
                run = Run(self.client, self.client.create_run(self.experiment_id, run_name=name, tags=all_tags).info)
            yield run
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        except Exception as error:
            if run is not None:
                run.tag({"error": f"{type(error).__name__}: {error}"[:500]})
            raise
        finally:
            if run is not None:
                with deferred_signals():
                    self.client.set_terminated(run.run_id, status)

    def _end_dead_runs(self) -> None:
        """Mark runs of this host whose process is gone (killed outright, power cut) as KILLED."""
        query = f"attributes.status = 'RUNNING' and tags.`process.host` = '{platform.node()}'"
        for run in self.client.search_runs([self.experiment_id], query):
            if not _alive(run.data.tags):
                self.client.set_terminated(run.info.run_id, "KILLED")


class Run:
    """One MLflow run being written."""

    def __init__(self, client: MlflowClient, info: Any) -> None:
        self._client = client
        self.run_id: str = info.run_id
        self.name: str = info.run_name

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log flat parameters."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in params.items()]
        for start in range(0, len(entries), _BATCH):
            self._client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log the run's numbers."""
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


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM inside the block, deliver them at its end (main thread; no effect elsewhere)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    old = {s: signal.signal(s, lambda number, _: pending.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for blocked, handler in old.items():
            signal.signal(blocked, handler)
        for number in pending[:1]:
            signal.raise_signal(number)


def _lock_beside(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"))


def _process_tags() -> dict[str, str]:
    process = psutil.Process()
    started = f"{process.create_time():.3f}"
    return {"process.host": platform.node(), "process.pid": str(process.pid), "process.started": started}


def _alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags["process.pid"]))
        return abs(process.create_time() - float(tags["process.started"])) < 1.0  # else the number was given anew
    except psutil.NoSuchProcess:
        return False
