"""What the client's parts and the codec cost on one core, against the project's bars: `python -m validation.benchmark`.

Medians on rendered street scenes (`vitmalis.video.standin`), so that it runs anywhere. A ratio is the median over
pairs that are measured one after the other, in turns either first. One JSON object goes to standard output and to
`runs/profiling`; `missed` names the bars that were not reached.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
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
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState
from vitmalis.regions import ModelGeometry, Motion, MotionAnalyzer, RegionGrid
from vitmalis.tracker import OpticalFlowTracker
from vitmalis.types import BoolMask, Configuration, Detections, RgbImage
from vitmalis.video.standin import PROFILES, StreetScene
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.validation.synthetic_tables import policy_on

BARS = {"decision_ms": 1.0, "motion_ms": 4.0, "tracker_ms": 4.0, "encode_ratio": 0.9, "decode_ratio": 0.85}
"""At most so much; each belongs to 960x540 frames."""

WALK = "walkB"
"""The scene whose consecutive frames are analysed and tracked: it has the most objects."""

GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
"""Of `vitdet_tiny`; asking the model itself would take torch, which no client has."""

OBJECTS = 10
CONFIGURATIONS = 77
QUALITY = 95
SIZES = {"": (960, 540), "_1080p": (1920, 1080)}
"""Suffix of the keys, and (width, height) of the frames that are encoded."""
_SEED = 7

T = TypeVar("T")


@contextmanager
def one_core() -> Iterator[bool]:
    """Keep this process on one core and OpenCV on one thread meanwhile; tell whether the system can pin."""
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


def timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """What one call returns, and how many ms it took."""
    start_s = time.perf_counter()
    returned = function(*arguments)
    return returned, 1e3 * (time.perf_counter() - start_s)


def motion_pass(grid: RegionGrid, images: Sequence[RgbImage], repeats: int) -> tuple[float, list[Motion]]:
    """Analyse the frames forwards and backwards, `repeats` in all: median ms, and the findings."""
    analyzer = MotionAnalyzer(grid)
    there_and_back = itertools.cycle([*images, *images[-2:0:-1]])
    analyzer.analyse(next(there_and_back))
    passes = [timed(analyzer.analyse, image) for image in itertools.islice(there_and_back, repeats)]
    return statistics.median(took_ms for _, took_ms in passes), [motion for motion, _ in passes]


def tracker_pass(images: Sequence[RgbImage], boxes: Sequence[Detections], repeats: int) -> float:
    """Follow the boxes of a frame into the next, reduction of the picture included: median ms."""
    tracker, durations_ms = OpticalFlowTracker(), []
    for index in itertools.islice(itertools.cycle(range(len(images) - 1)), repeats + 1):
        tracker.restart(tracker.prepare(images[index]), boxes[index])
        prepared, reduction_ms = timed(tracker.prepare, images[index + 1])
        _, step_ms = timed(tracker.step, prepared)
        durations_ms.append(reduction_ms + step_ms)
    return statistics.median(durations_ms[1:])


def decision_pass(states: Sequence[ClientState], repeats: int) -> dict[str, Any]:
    """Let the full policy decide: medians of the whole and of its two parts in ms, over the same frames.

    Raises:
        UserError: in no frame is every configuration one of its own, as none has regions to downsample.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        policy = policy_on(Path(folder))
        for state in itertools.islice(itertools.cycle(states), repeats + 1):
            decision, took_ms = timed(policy.decide, state)
            why = decision.explanation
            if why is not None and len(why.tau_d) == CONFIGURATIONS:
                rows.append((took_ms, 1e3 * why.estimation_s, 1e3 * why.optimization_s))
    if len(rows) < 2:
        raise UserError(f"benchmark: in no frame of '{WALK}' are all {CONFIGURATIONS} configurations different")
    decision_ms, estimation_ms, optimization_ms = np.median(rows[1:], axis=0).tolist()
    return {
        "decision_ms": decision_ms,
        "estimation_ms": estimation_ms,
        "optimization_ms": optimization_ms,
        "configurations": CONFIGURATIONS,
    }


def half_masks(grid: RegionGrid, count: int) -> list[BoolMask]:
    """Different masks with half of the regions downsampled, anywhere in the frame."""
    rng = np.random.default_rng(_SEED)
    regions = grid.shape[0] * grid.shape[1]
    plain = np.arange(regions) < regions // 2
    return [rng.permutation(plain).reshape(grid.shape) for _ in range(count)]


def codec_pass(grid: RegionGrid, images: Sequence[RgbImage], repeats: int) -> dict[str, float]:
    """Half of the regions downsampled against the full frame: medians in ms, and medians of the pairs' ratios.

    Every pair has a mask of its own, so that laying it out is part of what encoding costs. Decoding happens in the
    same process here and finds the layout made; a server lays out once more.
    """
    full = OffloadDecision(Configuration(0, QUALITY, 0))
    encoding, decoding = [], []
    for turn, mask in enumerate(half_masks(grid, repeats + 1)):
        image, half = images[turn % len(images)], OffloadDecision(Configuration(1, QUALITY, 1), mask)
        sent, took_ms = _both(encode_offload, (image, full, grid), (image, half, grid), turn)
        encoding.append(took_ms)
        _, took_ms = _both(decoded, (sent[0], grid), (sent[1], grid), turn)
        decoding.append(took_ms)
    return {**_paired("encode", encoding[1:]), **_paired("decode", decoding[1:])}


def decoded(frame: EncodedFrame, grid: RegionGrid) -> NDArray[np.uint8]:
    """Picture of a plain frame, patches of a packed one, as a server makes them."""
    picture = decode_jpeg(frame.jpeg, 2 * grid.padded_width_px * grid.padded_height_px)
    return picture if frame.downsample_mask is None else unpack(picture, grid, frame.downsample_mask)


def _both(
    function: Callable[..., T], full: tuple[Any, ...], half: tuple[Any, ...], turn: int
) -> tuple[tuple[T, T], tuple[float, float]]:
    """Results and durations in ms of two calls; the first comes first in even turns."""
    order = (full, half) if turn % 2 == 0 else (half, full)
    pairs = [timed(function, *arguments) for arguments in order]
    (of_full, full_ms), (of_half, half_ms) = pairs if turn % 2 == 0 else reversed(pairs)
    return (of_full, of_half), (full_ms, half_ms)


def _paired(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {
        f"{name}_ratio": statistics.median(half / full for full, half in pairs),
        f"{name}_full_ms": statistics.median(full for full, _ in pairs),
        f"{name}_half_ms": statistics.median(half for _, half in pairs),
    }


def largest(boxes: Detections, count: int) -> Detections:
    """The `count` largest boxes, some twice where there are fewer."""
    sides = boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    return boxes.select(np.resize(np.argsort(-sides.prod(axis=1)), count))


def measure(repeats: int, frames: int, scenes: int) -> dict[str, Any]:
    """Render `frames` consecutive frames to analyse and track and one of each of `scenes` to encode, then measure."""
    terminal = Terminal.on_stderr()
    scene, images, boxes = StreetScene(WALK, _SEED, 960, 540), [], []
    for index in range(frames):
        image, found = scene.render(index)
        images.append(image)
        boxes.append(largest(found, OBJECTS))
        terminal.step(index + 1, frames, f"rendering {WALK}")
    grid = GEOMETRY.grid(960, 540)
    with one_core() as pinned:
        motion_ms, motions = motion_pass(grid, images, repeats)
        states = [
            ClientState(0, grid, 1 / 30, 0.0, tracked=boxes[i % frames], motion=motion, results=1)
            for i, motion in enumerate(motions)
        ]
        result = {
            **decision_pass(states, repeats),
            "motion_ms": motion_ms,
            "tracker_ms": tracker_pass(images, boxes, repeats),
        }
        for suffix, (width, height) in SIZES.items():
            stills = []
            for index, profile in enumerate(PROFILES[:scenes]):
                stills.append(StreetScene(profile, _SEED, width, height).render(0)[0])
                terminal.step(index + 1, scenes, f"rendering {width}x{height}")
            codec = codec_pass(GEOMETRY.grid(width, height), stills, repeats)
            result |= {f"{name}{suffix}": value for name, value in codec.items()}
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in result.items()}
    missed = [name for name, bar in BARS.items() if rounded[name] > bar]
    return {**rounded, "bars": BARS, "missed": missed, "pinned": pinned, "repeats": repeats, **_host()}


def _host() -> dict[str, Any]:
    return {"opencv": cv2.__version__, "numpy": np.__version__, "load_average": round(os.getloadavg()[0], 2)}


def main(arguments: list[str] | None = None) -> None:
    """Measure as the command line says, print and store the result."""
    parser = argparse.ArgumentParser(prog="python -m validation.benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60, help="the median of so many is told")
    parser.add_argument("--frames", type=int, default=12, help="consecutive frames to analyse and track")
    parser.add_argument("--scenes", type=int, default=len(PROFILES), help="different ones to encode frames of")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/benchmark.json"))
    options = parser.parse_args(arguments)
    for name, least in (("repeats", 2), ("frames", 3), ("scenes", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(options, name)}")
    scenes = min(options.scenes, len(PROFILES))
    emit(measure(options.repeats, options.frames, scenes), options.output)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
