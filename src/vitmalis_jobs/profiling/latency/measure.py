"""Measures latency tables: T_enc over N_d and quality, mean T_dec, inference over N_d, and the client's other stages.

Everything that decides the numbers is here or imported here, and nothing else is: stored tables are measured again
when this code changes (`vitmalis_jobs.common.latency_tables`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import msgspec
import numpy as np
import psutil
import torch

from vitmalis.detector import BaseDetector, chosen_device, load_any_detector
from vitmalis.errors import UserError
from vitmalis.estimation.latency import EncodeTable, InferenceFit, LatencyTables, load_latency_tables
from vitmalis.paths import cache_dir
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import RgbImage
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.clips import available_clips
from vitmalis_jobs.common.detectors import model_engine
from vitmalis_jobs.common.machine import card_name, git_commit, processor
from vitmalis_jobs.common.timing import Stopwatch
from vitmalis_jobs.profiling.latency.config import LatencyConfig
from vitmalis_jobs.profiling.latency.durations import (
    CodecDurations,
    InferenceDurations,
    Progress,
    measure_codec,
    measure_inference,
)
from vitmalis_jobs.profiling.latency.fitting import fit_point
from vitmalis_jobs.profiling.latency.stages import WholeTimes, measure_whole, stage_times


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latency tables and what they were made from.

    Attributes:
        tables: of this device and a server.
        inference_s: what the lines were fitted to; empty if that was measured on another host.
        left_out: clips that are not available here, with the reason.
    """

    tables: LatencyTables
    inference_s: InferenceDurations
    left_out: dict[str, str]


class ServerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The server's part of the tables.

    Attributes:
        name: of the host.
        decode_s: mean T_dec.
        inference: one line for each restoration point.
        whole: times of frames that are sent whole.
        durations: what the lines were fitted to; empty if that was on another host.
        facts: further facts of the host.
    """

    name: str
    decode_s: float
    inference: tuple[InferenceFit, ...]
    whole: WholeTimes
    durations: dict[tuple[int, int], list[float]] = {}
    facts: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is measured.

    Attributes:
        detector: the model.
        frames: of the configured size, RGB uint8 (H, W, 3).
        left_out: clips that are not available here, with the reason.
        server_tables: measured on the server's host, with stages; None if decoding and inference are measured here.
    """

    detector: BaseDetector
    frames: list[RgbImage]
    left_out: dict[str, str]
    server_tables: LatencyTables | None


def read_inputs(config: LatencyConfig, progress: Progress) -> Inputs:
    """Load the model, frames and server's tables that a configuration names.

    Raises:
        UserError: no clip is available, the model cannot be loaded, or `server_tables` do not fit.
    """
    torch.set_num_threads(config.server_threads)
    cv2.setNumThreads(config.client_threads)
    detector = load_any_detector(config.model.name, **config.model.detector_options, compiled=config.model.compile)
    server_tables = None
    if config.server_tables is not None:
        server_tables = read_server_tables(Path(config.server_tables), config, detector)
    frames, left_out = read_frames(config, progress)
    return Inputs(detector, frames, left_out, server_tables)


def measure(config: LatencyConfig, inputs: Inputs, progress: Progress) -> Measurement:
    """Measure the tables that a configuration describes."""
    detector, frames, left_out = inputs.detector, inputs.frames, inputs.left_out
    grid = detector.geometry.grid(config.frame.width, config.frame.height)
    counts, draws = region_counts(config.codec.shares, grid), np.random.default_rng(config.seed)
    codec = measure_codec(frames, grid, counts, config.codec.qualities, config.repeats, draws, progress)
    if inputs.server_tables is None:
        server = measure_server(config, detector, frames, codec, progress)
    else:
        server = server_of_tables(inputs.server_tables, config, detector, frames, progress)
    tables = LatencyTables(
        device=config.device or platform.node(),
        server=server.name,
        model=detector.name,
        model_id=detector.model_id,
        width_px=config.frame.width,
        height_px=config.frame.height,
        regions=grid.region_patches.size,
        window=grid.window,
        downsampling_factor=grid.factor,
        encode=encode_table(codec),
        decode_s=server.decode_s,
        inference=server.inference,
        host=host_facts(config) | {"frames": len(frames), "clips_left_out": left_out} | server.facts,
    )
    stages = stage_times(tables, frames, grid, server.whole, codec, server.durations)
    return Measurement(msgspec.structs.replace(tables, stages=stages), server.durations, left_out)


def read_frames(config: LatencyConfig, progress: Progress) -> tuple[list[RgbImage], dict[str, str]]:
    """Read frames of the configured size, RGB uint8 (H, W, 3), and say why clips were left out.

    Raises:
        UserError: no clip is available.
    """

    def resolve(name: str) -> VideoSpec:
        options = config.clips[name]
        spec = resolve_clip(name, part="profile", **options, cache_dir=cache_dir(), progress=progress)
        return msgspec.structs.replace(spec, width=config.frame.width, height=config.frame.height)

    found, left_out = available_clips(config.clips, resolve)
    return [frame for spec in found.values() for frame in open_video(spec)], left_out


def region_counts(shares: Sequence[float], grid: RegionGrid) -> list[int]:
    """N_d for shares of all regions, ascending."""
    return sorted({round(share * grid.region_patches.size) for share in shares})


def encode_table(durations: CodecDurations) -> EncodeTable:
    """Table of T_enc(N_d, quality), the medians of single encodings."""
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
        "model_device": chosen_device(config.model.device),
        "card": card_name(torch.device(chosen_device(config.model.device))),
        "precision": config.model.precision,
        "engine": model_engine(config.model),
        "compiled": config.model.compile,
        "torch": str(torch.__version__),
        "opencv": cv2.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "repeats": config.repeats,
    }


def measure_server(
    config: LatencyConfig, detector: BaseDetector, frames: Sequence[RgbImage], codec: CodecDurations, progress: Progress
) -> ServerTimes:
    """Measure decoding and inference on this host."""
    grid = detector.geometry.grid(config.frame.width, config.frame.height)
    points = range(detector.geometry.restoration_points + 1)
    counts = region_counts(config.inference.shares, grid)
    draws = np.random.default_rng(config.seed)
    stopwatch = Stopwatch(detector.device)
    durations = measure_inference(frames, detector, counts, points, config.repeats, draws, progress, stopwatch)
    return ServerTimes(
        name=config.server or platform.node(),
        decode_s=fmean(median(values) for values in codec.decode_s.values()),
        inference=tuple(fit_point(durations, point) for point in points),
        whole=measure_whole(frames, detector.detect, grid, draws, progress, stopwatch),
        durations=durations,
    )


def read_server_tables(path: Path, config: LatencyConfig, detector: BaseDetector) -> LatencyTables:
    """Read tables that were measured on the server's host.

    Raises:
        UserError: no such file, or one of another model or frame size.
    """
    tables = load_latency_tables(path)
    theirs = tables.model_id, tables.width_px, tables.height_px
    wanted = detector.model_id, config.frame.width, config.frame.height
    if theirs != wanted:
        raise UserError(
            f"server_tables={path}: measured with model and frame size {theirs}, not {wanted}: choose alike"
        )
    if tables.stages is None:
        raise UserError(f"server_tables={path}: without stages; measure there with `python -m profiling.latency`")
    return tables


def server_of_tables(
    tables: LatencyTables, config: LatencyConfig, detector: BaseDetector, frames: Sequence[RgbImage], progress: Progress
) -> ServerTimes:
    """Take the server's part from the tables of its own host; frames are compressed on this one."""
    if tables.stages is None:
        raise ValueError("tables without stages")
    grid = detector.geometry.grid(config.frame.width, config.frame.height)
    draws = np.random.default_rng(config.seed)
    device = measure_whole(frames, lambda image: None, grid, draws, progress)
    whole = {
        name: msgspec.structs.replace(getattr(tables.stages, name), encode_s=getattr(device, name).encode_s)
        for name in ("downsampled", "blanked")
    }
    return ServerTimes(
        name=tables.server,
        decode_s=tables.decode_s,
        inference=tables.inference,
        whole=WholeTimes(**whole),
        facts={"server": tables.host},
    )
