"""Latency tables for a run: those of this machine, found or measured before the run starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from vitmalis.errors import UserError
from vitmalis.estimation.latency import VERSION, save_latency_tables
from vitmalis.paths import cache_dir
from vitmalis.process import Child
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import loaded_detector
from vitmalis_jobs.common.latency_tables import TablesKey
from vitmalis_jobs.common.progress import AS_JSON, read_progress
from vitmalis_jobs.run.config import EvaluationConfig


def run_tables(config: EvaluationConfig, width_px: int, height_px: int, terminal: Terminal) -> Path:
    """The file of latency tables that a run goes by: named by the user, the paper's testbed, or this machine's.

    Raises:
        UserError: as `latency_tables`.
    """
    latency = config.latency
    if config.virtual and latency.tables is not None:
        return Path(latency.tables)
    if config.virtual and latency.name == "paper_testbed":
        return _testbed_tables(config.model, width_px, height_px, cache_dir())
    return latency_tables(config, width_px, height_px, terminal)


@lru_cache(maxsize=8)
def _testbed_tables(model: ModelOptions, width_px: int, height_px: int, folder: Path) -> Path:
    """Worked out once in a process: it takes a second, and a sweep asks thousands of times."""
    from vitmalis.virtual.testbed import paper_testbed

    detector = loaded_detector(model)
    geometry = detector.geometry
    tables = paper_testbed(
        detector.model_id, detector.name, geometry.grid(width_px, height_px), geometry.restoration_points
    )
    path = folder / "latency" / f"paper_testbed-{detector.model_id}-{width_px}x{height_px}-v{VERSION}.json"
    save_latency_tables(tables, path)
    return path


def latency_tables(config: EvaluationConfig, width_px: int, height_px: int, terminal: Terminal) -> Path:
    """The file of latency tables for a run on this machine; measured first if there is none, in under a minute.

    Runs that need the same ones at the same time wait for the first of them.

    Args:
        config: of the run.
        width_px, height_px: of its frames.
        terminal: where the measuring is said and its progress shown.

    Raises:
        UserError: the server runs elsewhere, so that its inference cannot be measured here; or measuring failed.
    """
    if not config.server.spawn:
        raise UserError(
            f"server.address={config.server.address}: the latency of a server that runs elsewhere is not measured "
            "here; run `python -m profiling.latency` there, then here with server_tables=<its file>, and give the "
            "result as policy.latency_tables=<file>"
        )
    detector = loaded_detector(config.model)
    key = TablesKey(
        model=detector.name,
        model_id=detector.model_id,
        width_px=width_px,
        height_px=height_px,
        client_threads=config.client.threads,
        server_threads=config.server.threads,
        compiled=config.model.compile,
    )
    path = key.path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            _measure(config, key, path, terminal)
    return path


def _measure(config: EvaluationConfig, key: TablesKey, path: Path, terminal: Terminal) -> None:
    """Let `profiling.latency` write the tables in a process of its own, with as many threads as the server has."""
    log = path.with_suffix(".log")
    log.unlink(missing_ok=True)
    overrides = list(_overrides(config, key, path))
    threads = str(key.server_threads)
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | AS_JSON
    with (
        terminal.progress("measuring latency tables (none for this machine yet, kept for later runs)") as step,
        Child("latency profile", "vitmalis_jobs.profiling.latency", overrides, log, environment) as child,
    ):
        for report in read_progress(child.stdout):
            step(*report)
        code = child.wait()
        if code or not path.is_file():
            raise UserError(f"latency tables could not be measured: {child.last_log_line()} (see {log})")


def _overrides(config: EvaluationConfig, key: TablesKey, path: Path) -> Iterator[str]:
    """The run's options as the job's, quoted for Hydra."""
    values: dict[str, Any] = {f"model.{name}": value for name, value in msgspec.to_builtins(config.model).items()}
    values |= {"frame.width": key.width_px, "frame.height": key.height_px}
    values |= {"client_threads": key.client_threads, "server_threads": key.server_threads, "output": str(path)}
    values |= {f"mlflow.{name}": value for name, value in msgspec.to_builtins(config.mlflow).items()}
    values["mlflow.experiment"] = "profiling"
    for name, value in values.items():
        yield f"{name}={json.dumps(value)}"
