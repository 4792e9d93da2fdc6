"""Measure the latency tables of this machine: `python -m profiling.latency` (configuration: conf/profile_latency.yaml).

Measures T_enc over N_d and quality, the mean T_dec, and inference over N_d for every restoration point, to which lines
are fitted (paper, section IV-C). The tables are stored where `evaluate.py` looks for them, one file per host and model,
unless the machine was busy with other work meanwhile.
One JSON object goes to standard output and to `runs/profiling/latency.json`, progress to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig

from vitmalis.detector import chosen_device
from vitmalis.estimation.latency import InferenceFit, LatencyTables, save_latency_tables
from vitmalis.paths import cache_dir
from vitmalis_jobs.common.checks import check_writable
from vitmalis_jobs.common.cli import hydra_job
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import model_engine
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.latency_tables import TablesKey, busy_reasons
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.common.model_arguments import model_facts
from vitmalis_jobs.profiling.latency.config import LatencyConfig
from vitmalis_jobs.profiling.latency.durations import InferenceDurations
from vitmalis_jobs.profiling.latency.figure import draw_fits
from vitmalis_jobs.profiling.latency.fitting import is_poor, medians
from vitmalis_jobs.profiling.latency.measure import Inputs, Measurement, measure, read_inputs


def profile(config: LatencyConfig, inputs: Inputs, terminal: Terminal, run: Run) -> dict[str, Any]:
    """Measure, store, draw and log; returns what the job prints."""
    meter = LoadMeter()
    measurement = measure(config, inputs, terminal.step)
    load = meter.load()
    for name, reason in measurement.left_out.items():
        terminal.warn(f"{name} is left out: {reason}")
    tables = msgspec.structs.replace(measurement.tables, host=measurement.tables.host | load.facts)
    path = tables_path(config, tables)
    save_latency_tables(tables, path)
    if load.reasons:
        kept = "runs that use them say so" if config.output else "they are not kept, and runs measure again"
        terminal.warn(f"{' and '.join(load.reasons)}: the durations in {path} are too long; {kept}")
    poor = poor_points(config, measurement)
    if measurement.inference_s:
        title = f"{tables.model} on {tables.server}, {tables.width_px}x{tables.height_px}"
        draw_fits(path.with_suffix(".png"), tables.inference, measurement.inference_s, title)
        run.log_artifact(path.with_suffix(".png"))
    for point in poor:
        terminal.warn(
            f"restoration point {point}: inference time is no line over N_d "
            f"(R^2 {tables.inference[point].r2:.2f}, see {path.with_suffix('.png')}); "
            "was the machine busy? a quiet one and repeats=10 help"
        )
    run.tag(model_facts(config.model))
    log_tables(run, tables, path)
    return as_json(tables, measurement.inference_s, poor, path, model_facts(config.model))


def tables_path(config: LatencyConfig, tables: LatencyTables) -> Path:
    """The file to store tables in: the configured one, else where runs look, unless the machine was busy."""
    if config.output:
        return Path(config.output)
    key = TablesKey(
        model=tables.model,
        model_id=tables.model_id,
        width_px=tables.width_px,
        height_px=tables.height_px,
        device=chosen_device(config.model.device),
        client_threads=config.client_threads,
        server_threads=config.server_threads,
        engine=model_engine(config.model),
        compiled=config.model.compile,
    )
    return key.busy_path() if busy_reasons(tables) else key.path()


def poor_points(config: LatencyConfig, measurement: Measurement) -> list[int]:
    """Restoration points whose line describes their medians badly; none if they were measured on another host."""
    durations, limits = measurement.inference_s, config.poor_fit
    if not durations:
        return []
    fits = measurement.tables.inference
    return [fit.restoration_point for fit in fits if is_poor(fit, durations, limits.r2, limits.residual)]


def as_json(
    tables: LatencyTables, durations: InferenceDurations, poor: Sequence[int], path: Path, facts: dict[str, str]
) -> dict[str, Any]:
    """The result for people and scripts: lines, their residuals, and a few codec times, ms; `facts` of the model."""
    knots = [tables.encode.downsampled_regions[at] for at in (0, -1)]
    return {
        "tables": str(path),
        "model": tables.model,
        "model_id": tables.model_id,
        "frame": [tables.width_px, tables.height_px],
        "regions": tables.regions,
        **facts,
        "encode_ms": {
            f"{count} regions, quality {quality}": round(1e3 * float(tables.encode_s(count, quality)), 2)
            for count in knots
            for quality in tables.encode.qualities
        },
        "decode_ms": round(1e3 * tables.decode_s, 2),
        "inference": [_fit_as_json(fit, medians(durations, fit.restoration_point), poor) for fit in tables.inference],
        "stages": msgspec.to_builtins(tables.stages),
        "host": tables.host,
    }


def _fit_as_json(fit: InferenceFit, measured_s: dict[int, float], poor: Sequence[int]) -> dict[str, Any]:
    return {
        "restoration_point": fit.restoration_point,
        "intercept_ms": round(1e3 * fit.intercept_s, 2),
        "slope_ms": round(1e3 * fit.slope_s, 3),
        "r2": round(fit.r2, 4),
        "poor": fit.restoration_point in poor,
        "median_ms": {str(n): round(1e3 * s, 1) for n, s in measured_s.items()},
        "residual_ms": {str(n): round(1e3 * (s - fit.intercept_s - fit.slope_s * n), 1) for n, s in measured_s.items()},
    }


def log_tables(run: Run, tables: LatencyTables, path: Path) -> None:
    """Log the tables as an MLflow run: host as parameters, lines as metrics, the file as an artifact."""
    run.tag({"model_id": tables.model_id, "host": tables.device})
    run.log_params({f"host.{name}": value for name, value in tables.host.items()})
    run.log_metrics({"codec/decode_ms": 1e3 * tables.decode_s})
    for fit in tables.inference:
        section = f"inference_from_point_{fit.restoration_point}"
        values = {"intercept_ms": 1e3 * fit.intercept_s, "slope_ms": 1e3 * fit.slope_s, "r2": fit.r2}
        run.log_metrics({f"{section}/{name}": value for name, value in values.items()})
    run.log_artifact(path)


@hydra_job(
    "profile_latency",
    {
        "": "half a minute, for this machine and vitdet_tiny",
        "repeats=10 model=vitdet_b": "minutes, with steadier medians, for another model",
    },
)
def main(config: DictConfig) -> None:
    """Measure the tables that the configuration describes; print and store the result."""
    options, terminal = checked(config, LatencyConfig), Terminal.on_stderr()
    check_writable(cache_dir(), Path(options.output).parent if options.output else cache_dir())
    inputs = read_inputs(options, terminal.step)
    store = Store(options.mlflow.tracking_uri, options.mlflow.experiment, Path(options.mlflow.artifact_dir))
    with store.run(f"latency of {options.model.name}", {"job": "profile_latency"}) as run:
        result = profile(options, inputs, terminal, run)
    emit(result, Path("runs/profiling/latency.json"))


if __name__ == "__main__":
    raise SystemExit(main())
