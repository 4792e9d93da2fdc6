"""Latency tables of this machine: `python -m profiling.latency` (configuration: conf/profile_latency.yaml).

Measures T_enc over N_d and quality, the mean T_dec, and inference over N_d for every restoration point, to which lines
are fitted (paper, section IV-C). The tables are stored where `evaluate.py` looks for them, one file per host and model.
One JSON object goes to standard output and to `runs/profiling/latency.json`, progress to standard error.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import hydra
import msgspec
import numpy as np
import psutil
import torch
from omegaconf import DictConfig

from vitmalis.detector import Detector, load_detector
from vitmalis.errors import UserError
from vitmalis.estimation.latency import (
    EncodeTable,
    InferenceFit,
    LatencyTables,
    load_latency_tables,
    save_latency_tables,
)
from vitmalis.paths import cache_dir
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import RgbImage
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import open_video
from vitmalis_jobs.common.config import checked, conf_dir
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.latency_tables import TablesKey
from vitmalis_jobs.common.machine import git_commit, processor
from vitmalis_jobs.common.mlflow_store import Run, Store
from vitmalis_jobs.common.progress import Reporter
from vitmalis_jobs.profiling.latency.config import LatencyConfig
from vitmalis_jobs.profiling.latency.durations import CodecDurations, measure_codec, measure_inference
from vitmalis_jobs.profiling.latency.fitting import Durations, draw_fits, fit_point, is_poor, medians
from vitmalis_jobs.profiling.latency.stages import WholeTimes, measure_whole, stage_times


def read_frames(config: LatencyConfig, reporter: Reporter) -> tuple[list[RgbImage], dict[str, str]]:
    """Frames to measure with, all of the configured size, and why clips were left out."""
    frames: list[RgbImage] = []
    left_out = {}
    for name, options in config.clips.items():
        try:
            spec = resolve_clip(name, part="profile", **options, cache_dir=cache_dir(), progress=reporter.step)
        except UserError as error:
            left_out[name] = str(error)
            reporter.say(f"{name} is left out: {error}")
            continue
        spec = msgspec.structs.replace(spec, width=config.frame.width, height=config.frame.height)
        frames += open_video(spec)
    if not frames:
        raise UserError("profile_latency: none of the clips can be had here; see the lines above")
    return frames, left_out


def region_counts(shares: Sequence[float], grid: RegionGrid) -> list[int]:
    """N_d for shares of all regions, ascending."""
    return sorted({round(share * grid.region_patches.size) for share in shares})


def encode_table(durations: CodecDurations) -> EncodeTable:
    """T_enc(N_d, quality) from medians."""
    counts, qualities = (tuple(sorted({key[axis] for key in durations.encode_s})) for axis in (0, 1))
    rows = tuple(tuple(median(durations.encode_s[count, quality]) for quality in qualities) for count in counts)
    return EncodeTable(downsampled_regions=counts, qualities=qualities, encode_s=rows)


def host_facts(config: LatencyConfig) -> dict[str, Any]:
    """What the durations depend on, and when they were measured."""
    return {
        "name": platform.node(),
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "client_threads": config.client_threads,
        "server_threads": config.server_threads,
        "model_device": config.model.device,
        "precision": config.model.precision,
        "compiled": config.model.compile,
        "torch": str(torch.__version__),
        "opencv": cv2.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "repeats": config.repeats,
    }


class ServerPart(msgspec.Struct, frozen=True, kw_only=True):
    """The server's share: its name, mean decoding, lines and what they were fitted to, frames sent whole."""

    name: str
    decode_s: float
    inference: tuple[InferenceFit, ...]
    whole: WholeTimes
    durations: dict[tuple[int, int], list[float]] = {}
    facts: dict[str, Any] = {}


def measure_server(
    config: LatencyConfig, detector: Detector, frames: Sequence[RgbImage], codec: CodecDurations, reporter: Reporter
) -> ServerPart:
    """Measure decoding and inference on this host."""
    grid = detector.config.region_grid(config.frame.height, config.frame.width)
    points = range(detector.config.vit.subsets + 1)
    counts = region_counts(config.inference.shares, grid)
    draws = np.random.default_rng(config.seed)
    durations = measure_inference(frames, detector, counts, points, config.repeats, draws, reporter.step)
    return ServerPart(
        name=config.server or platform.node(),
        decode_s=fmean(median(values) for values in codec.decode_s.values()),
        inference=tuple(fit_point(durations, point) for point in points),
        whole=measure_whole(frames, detector.detect, grid, draws, reporter.step),
        durations=durations,
    )


def server_from(
    path: Path, config: LatencyConfig, detector: Detector, frames: Sequence[RgbImage], reporter: Reporter
) -> ServerPart:
    """The server's part of tables that were measured on its own host; frames are compressed on this one.

    Raises:
        UserError: no such file, or one of another model or frame size.
    """
    tables = load_latency_tables(path)
    theirs = tables.model_id, tables.width_px, tables.height_px
    mine = detector.model_id, config.frame.width, config.frame.height
    if theirs != mine:
        raise UserError(f"server_tables={path}: measured with model and frame size {theirs}, not {mine}: choose alike")
    if tables.stages is None:
        raise UserError(f"server_tables={path}: without stages; measure there with `python -m profiling.latency`")
    grid = detector.config.region_grid(config.frame.height, config.frame.width)
    draws = np.random.default_rng(config.seed)
    mine_whole = measure_whole(frames, lambda image: None, grid, draws, reporter.step)
    whole = {
        name: msgspec.structs.replace(getattr(tables.stages, name), encode_s=getattr(mine_whole, name).encode_s)
        for name in ("halved", "blanked")
    }
    return ServerPart(
        name=tables.server,
        decode_s=tables.decode_s,
        inference=tables.inference,
        whole=WholeTimes(**whole),
        facts={"server": tables.host},
    )


def measure(
    config: LatencyConfig, detector: Detector, reporter: Reporter
) -> tuple[LatencyTables, dict[tuple[int, int], list[float]]]:
    """Measure the tables; also what the lines were fitted to, empty if that was on another host.

    Raises:
        UserError: no frames, or `server_tables` do not fit.
    """
    frames, left_out = read_frames(config, reporter)
    grid = detector.config.region_grid(config.frame.height, config.frame.width)
    counts, draws = region_counts(config.codec.shares, grid), np.random.default_rng(config.seed)
    codec = measure_codec(frames, grid, counts, config.codec.qualities, config.repeats, draws, reporter.step)
    if config.server_tables is None:
        server = measure_server(config, detector, frames, codec, reporter)
    else:
        server = server_from(Path(config.server_tables), config, detector, frames, reporter)
    tables = LatencyTables(
        device=config.device or platform.node(),
        server=server.name,
        model=detector.name,
        model_id=detector.model_id,
        width_px=config.frame.width,
        height_px=config.frame.height,
        regions=grid.region_patches.size,
        encode=encode_table(codec),
        decode_s=server.decode_s,
        inference=server.inference,
        host=host_facts(config) | {"frames": len(frames), "clips_left_out": left_out} | server.facts,
    )
    stages = stage_times(tables, frames, grid, server.whole, codec, server.durations)
    return msgspec.structs.replace(tables, stages=stages), server.durations


def as_json(tables: LatencyTables, durations: Durations, poor: Sequence[int], path: Path) -> dict[str, Any]:
    """The result for people and scripts: lines, their residuals, and a few codec times in ms."""
    knots = [tables.encode.downsampled_regions[at] for at in (0, -1)]
    return {
        "tables": str(path),
        "model": tables.model,
        "model_id": tables.model_id,
        "frame": [tables.width_px, tables.height_px],
        "regions": tables.regions,
        "encode_ms": {
            f"{count} regions, quality {quality}": round(1e3 * float(tables.encode_s(count, quality)), 2)
            for count in knots
            for quality in tables.encode.qualities
        },
        "decode_ms": round(1e3 * tables.decode_s, 2),
        "inference": [
            {
                "restoration_point": fit.restoration_point,
                "intercept_ms": round(1e3 * fit.intercept_s, 2),
                "slope_ms": round(1e3 * fit.slope_s, 3),
                "r2": round(fit.r2, 4),
                "poor": fit.restoration_point in poor,
                "median_ms": {str(n): round(1e3 * s, 1) for n, s in medians(durations, fit.restoration_point).items()},
                "residual_ms": {
                    str(n): round(1e3 * (s - fit.intercept_s - fit.slope_s * n), 1)
                    for n, s in medians(durations, fit.restoration_point).items()
                },
            }
            for fit in tables.inference
        ],
        "stages": msgspec.to_builtins(tables.stages),
        "host": tables.host,
    }


def run_job(config: LatencyConfig, reporter: Reporter, run: Run) -> dict[str, Any]:
    """Measure, store, draw and log; returns what the job prints."""
    torch.set_num_threads(config.server_threads)
    cv2.setNumThreads(config.client_threads)
    detector = load_detector(config.model.name, **config.model.detector_options, compiled=config.model.compile)
    tables, durations = measure(config, detector, reporter)
    key = TablesKey(
        model=detector.name,
        model_id=detector.model_id,
        width_px=tables.width_px,
        height_px=tables.height_px,
        client_threads=config.client_threads,
        server_threads=config.server_threads,
        compiled=config.model.compile,
    )
    path = Path(config.output) if config.output else key.path()
    save_latency_tables(tables, path)
    poor = []
    if durations:
        limits = config.poor_fit
        poor = [f.restoration_point for f in tables.inference if is_poor(f, durations, limits.r2, limits.residual)]
        title = f"{tables.model} on {tables.server}, {tables.width_px}x{tables.height_px}"
        draw_fits(path.with_suffix(".png"), tables.inference, durations, title)
        run.log_artifact(path.with_suffix(".png"))
    for point in poor:
        reporter.say(
            f"warning: restoration point {point}: inference time is no line over N_d "
            f"(R^2 {tables.inference[point].r2:.2f}, see {path.with_suffix('.png')}); "
            "was the machine busy? a quiet one and repeats=10 help"
        )
    log(run, tables, path)
    return as_json(tables, durations, poor, path)


def log(run: Run, tables: LatencyTables, path: Path) -> None:
    """Put the tables into the MLflow run."""
    run.tag({"model_id": tables.model_id, "host": tables.device})
    run.log_params({f"host.{name}": value for name, value in tables.host.items()})
    run.log_metrics({"decode_ms": 1e3 * tables.decode_s})
    for fit in tables.inference:
        prefix = f"point_{fit.restoration_point}"
        values = {"intercept_ms": 1e3 * fit.intercept_s, "slope_ms": 1e3 * fit.slope_s, "r2": fit.r2}
        run.log_metrics({f"{prefix}_{name}": value for name, value in values.items()})
    run.log_artifact(path)


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="profile_latency")
def main(config: DictConfig) -> None:
    """Entry point."""
    try:
        options = checked(config, LatencyConfig)
        store = Store(options.mlflow.tracking_uri, options.mlflow.experiment, Path(options.mlflow.artifact_dir))
        with store.run(f"latency of {options.model.name}", {"job": "profile_latency"}) as run:
            result = run_job(options, Reporter(), run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    emit(result, Path("runs/profiling/latency.json"))


if __name__ == "__main__":
    main()
