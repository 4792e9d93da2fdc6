"""A sweep in MLflow: one run above those it consists of, opened, joined or opened again, and ended with them."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run.directory import SWEEP_FILE, read_summaries, read_sweep, write_json


def open_parent(directory: Path, command: list[str], mlflow: DictConfig) -> None:
    """Make the sweep's folder and its MLflow run, or go on with those that are there.

    Args:
        directory: of the sweep.
        command: the overrides that decide which runs it has.
        mlflow: section `mlflow` of the configuration.

    Raises:
        UserError: the folder holds the runs of another command; the store cannot be opened.
    """
    directory.mkdir(parents=True, exist_ok=True)
    store = _store(mlflow)
    with FileLock(directory / f"{SWEEP_FILE}.lock"):
        known = read_sweep(directory)
        if known and known["command"] != command:
            raise UserError(
                f"sweep '{directory}' was made by another command ({' '.join(known['command'])}), whose runs would "
                "be mixed with these: choose another sweep.name, or remove the folder"
            )
        run_id = str(known.get("run_id", ""))
        if known.get("store") != store.name or not store.reopen(run_id):
            run_id = store.create_parent(directory.name, {"sweep": str(directory), "sweep.command": " ".join(command)})
        write_json(directory / SWEEP_FILE, {"command": command, "run_id": run_id, "store": store.name})


def close_parent(directory: Path, mlflow: DictConfig, interrupted: bool, failed: bool) -> None:
    """End the sweep's MLflow run, and any run that a lost worker process left behind.

    Args:
        directory: of the sweep.
        mlflow: section `mlflow` of the configuration.
        interrupted: whether the sweep came to its end.
        failed: whether one of its runs did not.
    """
    run_id = str(read_sweep(directory).get("run_id", ""))
    if not run_id:
        return
    summaries = read_summaries(directory)
    count = Counter(summary["status"] for summary in summaries)
    with suppress(UserError):  # the store is gone: the sweep's own result stands
        store = _store(mlflow)
        counts = {"runs_finished": count["FINISHED"], "runs_failed": count["FAILED"]}
        counts["runs_taken_over"] = sum(summary["skipped"] for summary in summaries)
        status = "KILLED" if interrupted else "FAILED" if failed else "FINISHED"
        store.end(run_id, status, {key: float(value) for key, value in counts.items()})


def _store(mlflow: DictConfig) -> Store:
    return Store(mlflow.tracking_uri, mlflow.experiment, Path(mlflow.artifact_dir))
