"""Latency tables for a run: found, computed or measured before the run starts.

Tables that were measured while the machine was busy are not kept: the runs of the same process use them and say so, the
next command measures again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.detector import chosen_device
from vitmalis.errors import UserError
from vitmalis.estimation.latency import LatencyTables, load_latency_tables, save_latency_tables
from vitmalis.estimation.stage_factors import StageFactors
from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis.locks import file_lock
from vitmalis.paths import cache_dir, file_sha256
from vitmalis.process import Child
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.measured_testbed import h200_table, measured_testbed
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import model_engine
from vitmalis_jobs.common.latency_tables import TablesKey, busy_reasons
from vitmalis_jobs.common.progress import AS_JSON, read_progress
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.processes import importing_environment
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun, RunSpec
from vitmalis_jobs.run.tracker_times import tracker_times


def run_tables(
    spec: RunSpec, model_id: str, width_px: int, height_px: int, resources: Resources, terminal: Terminal
) -> Path:
    """The file of latency tables that a run uses: named by the user, a testbed's, or this machine's.

    Args:
        spec: of the run.
        model_id: of its detector.
        width_px, height_px: of its frames.
        resources: of this process; knows which tables it measured on a busy machine.
        terminal: shows the progress of a measurement.

    Raises:
        UserError: the tables cannot be measured here, or those that are named do not fit the run.
    """
    config = spec.config
    if config.virtual and config.latency.tables is not None:
        path = _named_tables(Path(config.latency.tables), spec, width_px, height_px)
    elif config.virtual and config.latency.is_testbed:
        path = _testbed_tables(spec, model_id, width_px, height_px)
    else:
        path = _own_tables(config, tables_key(config, model_id, width_px, height_px), resources, terminal)
    return _with_factors(path, config.latency.factors)


def _with_factors(path: Path, factors: StageFactors) -> Path:
    """The file of these tables with factors on their durations."""
    if factors == StageFactors():
        return path
    content = digest([file_sha256(path), msgspec.to_builtins(factors), code_fingerprint(StageFactors.__module__)])
    scaled = cache_dir() / "latency" / f"factors-{content[:16]}.json"
    if not scaled.is_file():
        save_latency_tables(factors.applied(load_latency_tables(path)), scaled)
    return scaled


def kept_tables(run: PreparedRun) -> LatencyTables | None:
    """The tables of this machine for the model and frames of a run, if they were measured at some time."""
    path = tables_key(run.config, run.model_id, run.clip.width, run.clip.height).path()
    return load_latency_tables(path) if path.is_file() else None


def tables_key(config: EvaluationConfig, model_id: str, width_px: int, height_px: int) -> TablesKey:
    """What the tables of this machine are valid for, with the options of a run."""
    return TablesKey(
        model=config.model.name,
        model_id=model_id,
        width_px=width_px,
        height_px=height_px,
        device=chosen_device(config.model.device),
        client_threads=config.client.threads,
        server_threads=config.server.threads,
        engine=model_engine(config.model),
        compiled=config.model.compile,
    )


def _named_tables(path: Path, spec: RunSpec, width_px: int, height_px: int) -> Path:
    """Check the tables that `latency.tables` names; returns their path.

    Raises:
        UserError: they are missing, damaged, without stages, or of another model, frame size or geometry.
    """
    tables, geometry = load_latency_tables(path), spec.model.geometry
    measured = tables.model, tables.width_px, tables.height_px
    wanted = spec.config.model.name, width_px, height_px
    if measured != wanted:
        raise UserError(
            f"latency.tables={path}: measured with {measured[0]} on {measured[1]}x{measured[2]} frames, "
            f"this run has {wanted[0]} and {wanted[1]}x{wanted[2]}"
        )
    tables.check_geometry(geometry.window, geometry.factor, f"latency.tables={path}")
    Durations(tables, tracker=tracker_times(spec.config.client.tracker))
    return path


def _testbed_tables(spec: RunSpec, model_id: str, width_px: int, height_px: int) -> Path:
    """Tables computed from the durations of a testbed; kept, because computing them takes a second.

    Raises:
        UserError: `latency.model` was not measured on the testbed's server.
    """
    latency, geometry = spec.config.latency, spec.model.geometry
    run = (model_id, spec.model.config.name, geometry.grid(width_px, height_px), geometry.restoration_points)
    code = code_fingerprint("vitmalis.virtual.measured_testbed")[:8]
    if latency.name == "paper_testbed":
        name, computed = "paper_testbed", partial(paper_testbed, *run)
    else:
        measured, server = str(latency.model), h200_table()
        name = f"{latency.name}_{measured}-{digest(msgspec.to_builtins(server))[:8]}"
        computed = partial(measured_testbed, server, measured, *run)
    path = cache_dir() / "latency" / f"{name}-{model_id}-{width_px}x{height_px}-{code}.json"
    if not path.is_file():
        save_latency_tables(computed(), path)
    return path


def _own_tables(config: EvaluationConfig, key: TablesKey, resources: Resources, terminal: Terminal) -> Path:
    """Tables of this machine; measured first if there are none, in under a minute.

    Runs that need the same tables at the same time wait for the first of them.

    Raises:
        UserError: the server runs elsewhere, so that its inference cannot be measured here; or measuring failed.
    """
    if not config.server.spawn:
        raise UserError(
            f"server.address={config.server.address}: the latency of a server that runs elsewhere is not measured "
            "here; run `python -m profiling.latency` there, then here with server_tables=<its file>, and give the "
            "result as policy.latency_tables=<file>"
        )
    path, busy_path = key.path(), key.busy_path()
    with file_lock(path.with_suffix(".lock")):
        if path.is_file():
            return path
        if busy_path not in resources.busy_tables:
            _measure(config, key, busy_path, terminal)
            reasons = busy_reasons(load_latency_tables(busy_path))
            if not reasons:
                for suffix in (".png", ".json"):  # the tables last
                    if (file := busy_path.with_suffix(suffix)).is_file():
                        file.replace(path.with_suffix(suffix))
                return path
            resources.busy_tables.add(busy_path)
            terminal.warn(
                f"latency tables were measured while {' and '.join(reasons)}: they serve this command only, and the "
                "next one measures again"
            )
    return busy_path


def _measure(config: EvaluationConfig, key: TablesKey, path: Path, terminal: Terminal) -> None:
    """Let `profiling.latency` write the tables in a process of its own, with as many threads as the server has."""
    log = path.with_suffix(".log")
    log.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    overrides = list(_overrides(config, key, path))
    environment = importing_environment(key.server_threads) | AS_JSON
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
    values = dict(_leaves("model", msgspec.to_builtins(config.model)))
    values |= {"frame.width": key.width_px, "frame.height": key.height_px}
    values |= {"client_threads": key.client_threads, "server_threads": key.server_threads, "output": str(path)}
    values |= {f"mlflow.{name}": value for name, value in msgspec.to_builtins(config.mlflow).items()}
    values["mlflow.experiment"] = "profiling"
    for name, value in values.items():
        yield f"++{name}={json.dumps(value)}"  # a model of another package has keys that others have not


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values below a key that are no dictionaries, by their dotted keys."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}", inner)
