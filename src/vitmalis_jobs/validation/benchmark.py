"""Times of the client's stages and the codec on one core against their bars: `python -m validation.benchmark`.

Medians on rendered street scenes (`vitmalis.video.standin`) of two sizes, so that it runs anywhere: processor time, but
for decisions, whose parts the policy itself times. A ratio is the median over pairs that are measured one directly
after the other and take turns in being first. One JSON object goes to standard output and to `runs/profiling`; `hit`
and `missed` name the bars that were and were not reached.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import EncodedFrame, encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.estimation import load_pair, save_latency_tables
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState
from vitmalis.policy.vitmalis import ViTMAlis
from vitmalis.regions import ModelGeometry, Motion, MotionAnalyzer, RegionGrid
from vitmalis.tracker import LucasKanadeTracker
from vitmalis.types import BoolMask, Configuration, Detections, RgbImage
from vitmalis.video.standin import PROFILES, StreetScene
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.timing import processor_timed, timed
from vitmalis_jobs.validation.synthetic_tables import synthetic_tables

BARS = {"decision_ms": 1.0, "motion_ms": 4.0, "tracker_ms": 4.0, "encode_ratio": 0.9, "decode_ratio": 0.85}
"""Upper limits, for frames of each size."""

WALK = "walkB"
"""Scene whose consecutive frames are analysed and tracked: the one with the most objects."""

MODEL = "vitdet_tiny"
GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
"""Geometry of `vitdet_tiny`, without the model, as a client has no torch."""

OBJECTS = 10
CONFIGURATIONS = 77
QUALITY = 95
SIZES = {"": (960, 540), "_1080p": (1920, 1080)}
"""Sizes of the frames, by the suffix of their keys: (width, height), pixels."""
_SEED = 7

T = TypeVar("T")


@contextmanager
def one_core() -> Iterator[bool]:
    """Keep this process on one core and OpenCV on one thread inside the block; yields whether the system can pin."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    process = psutil.Process()
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    try:
        if allowed:
            process.cpu_affinity(allowed[-1:])
        yield bool(allowed)
    finally:
        if allowed:
            process.cpu_affinity(allowed)
        cv2.setNumThreads(threads)


def motion_pass(grid: RegionGrid, images: Sequence[RgbImage], repeats: int) -> tuple[float, list[Motion]]:
    """Analyse `repeats` frames, forwards and backwards; returns the median in ms, and what moved in each."""
    analyzer = MotionAnalyzer(grid)
    there_and_back = itertools.cycle([*images, *images[-2:0:-1]])
    analyzer.analyse(next(there_and_back))
    passes = [processor_timed(analyzer.analyse, image) for image in itertools.islice(there_and_back, repeats)]
    return 1e3 * statistics.median(elapsed_s for _, elapsed_s in passes), [motion for motion, _ in passes]


def tracker_pass(images: Sequence[RgbImage], boxes: Sequence[Detections], repeats: int) -> float:
    """Track the boxes of a frame into the next one; returns the median in ms, with the reduction of the image."""
    tracker, durations_s = LucasKanadeTracker(), []
    for index in itertools.islice(itertools.cycle(range(len(images) - 1)), repeats + 1):
        tracker.restart(tracker.prepare(images[index]), boxes[index])
        prepared, reduction_s = processor_timed(tracker.prepare, images[index + 1])
        _, step_s = processor_timed(tracker.step, prepared)
        durations_s.append(reduction_s + step_s)
    return 1e3 * statistics.median(durations_s[1:])


def decision_pass(states: Sequence[ClientState], repeats: int) -> dict[str, Any]:
    """Let the full policy decide on the same frames; returns medians of the decision and of its two parts, ms.

    Raises:
        UserError: in no frame do all configurations differ, as none has regions to downsample.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        policy = full_policy(Path(folder))
        for state in itertools.islice(itertools.cycle(states), repeats + 1):
            decision, elapsed_s = timed(policy.decide, state)
            why = decision.explanation
            if why is not None and len(why.tau_d) == CONFIGURATIONS:
                rows.append((elapsed_s, decision.estimation_s or 0.0, decision.optimization_s or 0.0))
    if len(rows) < 2:
        raise UserError(f"benchmark: in no frame of '{WALK}' are all {CONFIGURATIONS} configurations different")
    decision_ms, estimation_ms, optimization_ms = (1e3 * np.median(rows[1:], axis=0)).tolist()
    return {
        "decision_ms": decision_ms,
        "estimation_ms": estimation_ms,
        "optimization_ms": optimization_ms,
        "configurations": CONFIGURATIONS,
    }


def full_policy(folder: Path) -> ViTMAlis:
    """The full policy with the packaged estimators on synthetic latency tables, which are written to `folder`."""
    path = folder / "tables.json"
    save_latency_tables(synthetic_tables(MODEL, load_pair(MODEL).size.model_id), path)
    return ViTMAlis(latency_tables=str(path), model=MODEL)


def half_masks(grid: RegionGrid, count: int) -> list[BoolMask]:
    """Random masks with half of the regions downsampled."""
    rng = np.random.default_rng(_SEED)
    regions = grid.shape[0] * grid.shape[1]
    plain = np.arange(regions) < regions // 2
    return [rng.permutation(plain).reshape(grid.shape) for _ in range(count)]


def codec_pass(grid: RegionGrid, images: Sequence[RgbImage], repeats: int) -> dict[str, float]:
    """Compare frames with half of their regions downsampled with full ones: medians in ms, and of the pairs' ratios.

    Every pair has its own mask, so that computing its layout is part of what encoding costs. Decoding finds the layout
    computed, as it happens in the same process here; a server computes it again.
    """
    full = OffloadDecision(Configuration(0, QUALITY, 0))
    encoding, decoding = [], []
    for turn, mask in enumerate(half_masks(grid, repeats + 1)):
        image, half = images[turn % len(images)], OffloadDecision(Configuration(1, QUALITY, 1), mask)
        sent, pair_ms = _both(encode_offload, (image, full, grid), (image, half, grid), turn)
        encoding.append(pair_ms)
        _, pair_ms = _both(decoded, (sent[0], grid), (sent[1], grid), turn)
        decoding.append(pair_ms)
    return {**_paired("encode", encoding[1:]), **_paired("decode", decoding[1:])}


def decoded(frame: EncodedFrame, grid: RegionGrid) -> NDArray[np.uint8]:
    """Decode as a server does: a full frame to an image, a packed one to patches."""
    image = decode_jpeg(frame.jpeg, 2 * grid.padded_width_px * grid.padded_height_px)
    return image if frame.regions is None else unpack(image, grid, frame.regions)


def _both(
    function: Callable[..., T], full: tuple[Any, ...], half: tuple[Any, ...], turn: int
) -> tuple[tuple[T, T], tuple[float, float]]:
    """Results and durations, ms, of two calls; the full frame comes first in even turns."""
    order = (full, half) if turn % 2 == 0 else (half, full)
    pairs = [processor_timed(function, *arguments) for arguments in order]
    (of_full, full_s), (of_half, half_s) = pairs if turn % 2 == 0 else reversed(pairs)
    return (of_full, of_half), (1e3 * full_s, 1e3 * half_s)


def _paired(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {
        f"{name}_ratio": statistics.median(half / full for full, half in pairs),
        f"{name}_full_ms": statistics.median(full for full, _ in pairs),
        f"{name}_half_ms": statistics.median(half for _, half in pairs),
    }


def largest(boxes: Detections, count: int) -> Detections:
    """Select the `count` largest boxes, repeating them where there are fewer."""
    sides = boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    return boxes.select(np.resize(np.argsort(-sides.prod(axis=1)), count))


def client_pass(
    grid: RegionGrid, images: Sequence[RgbImage], boxes: Sequence[Detections], repeats: int
) -> dict[str, Any]:
    """Measure motion analysis, decisions and tracking on consecutive frames with their boxes."""
    motion_ms, motions = motion_pass(grid, images, repeats)
    states = [
        ClientState(0, grid, 1 / 30, 0.0, tracked=boxes[i % len(boxes)], motion=motion, results=1)
        for i, motion in enumerate(motions)
    ]
    tracker_ms = tracker_pass(images, boxes, repeats)
    return {**decision_pass(states, repeats), "motion_ms": motion_ms, "tracker_ms": tracker_ms}


def size_pass(size: tuple[int, int], repeats: int, frames: int, scenes: int, terminal: Terminal) -> dict[str, Any]:
    """Measure everything on frames of one size: consecutive ones of `WALK`, and the first of each scene to encode.

    Args:
        size: (width, height), pixels.
        repeats: calls of which the median is reported.
        frames: number of consecutive frames.
        scenes: number of scenes.
        terminal: shows how many frames are rendered.
    """
    walk = StreetScene(WALK, _SEED, *size)
    first_of_each = (StreetScene(profile, _SEED, *size).render(0) for profile in PROFILES[:scenes])
    rendered = []
    for frame in itertools.chain(map(walk.render, range(frames)), first_of_each):
        rendered.append(frame)
        terminal.step(len(rendered), frames + scenes, f"rendering {size[0]}x{size[1]}")
    images = [image for image, _ in rendered]
    boxes = [largest(found, OBJECTS) for _, found in rendered[:frames]]
    grid = GEOMETRY.grid(*size)
    return client_pass(grid, images[:frames], boxes, repeats) | codec_pass(grid, images[frames:], repeats)


def measure(repeats: int, frames: int, scenes: int, terminal: Terminal) -> dict[str, Any]:
    """Measure frames of each size, and compare with the bars."""
    result: dict[str, Any] = {}
    with one_core() as pinned:
        for suffix, size in SIZES.items():
            found = size_pass(size, repeats, frames, scenes, terminal)
            result |= {f"{name}{suffix}": value for name, value in found.items()}
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in result.items()}
    bars = {f"{name}{suffix}": bar for suffix in SIZES for name, bar in BARS.items()}
    missed = [name for name, bar in bars.items() if rounded[name] > bar]
    hit = [name for name in bars if name not in missed]
    return {**rounded, "bars": bars, "hit": hit, "missed": missed, "pinned": pinned, "repeats": repeats, **_host()}


def _host() -> dict[str, Any]:
    return {
        "device": "cpu",
        "card": processor(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.benchmark",
        "Time the client's stages and the codec on one core, and compare them with their bars.",
        {
            "": "two minutes; needs a quiet machine",
            "--repeats 5 --scenes 1": "a quick look",
        },
        f"Bars, in ms or relative to a whole frame's time: {BARS}. Exit status 1: one was missed.",
    )
    parser.add_argument("--repeats", type=int, default=60, help="calls of each stage, of which the median is reported")
    parser.add_argument("--frames", type=int, default=12, help="consecutive frames that are analysed and tracked")
    parser.add_argument("--scenes", type=int, default=len(PROFILES), help="rendered scenes whose frames are encoded")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/benchmark.json"), help="file of the result")
    return parser


def check(options: argparse.Namespace) -> bool:
    """Measure, print and store the result; false if a bar was missed."""
    for name, least in (("repeats", 2), ("frames", 3), ("scenes", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(options, name)}")
    scenes, meter = min(options.scenes, len(PROFILES)), LoadMeter()
    result = measure(options.repeats, options.frames, scenes, Terminal.on_stderr())
    emit(result, options.output, meter.load())
    return not result["missed"]


main = option_job(command_line, check)


if __name__ == "__main__":
    sys.exit(main())
