"""Durations of the stages that equation 2 leaves out: tracker, motion analyzer, decision, frames sent whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice, pairwise, product
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.errors import UserError
from vitmalis.estimation.latency import LatencyTables, save_latency_tables
from vitmalis.estimation.stage_times import StageTimes, TrackerTimes, WholeFrame
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState
from vitmalis.policy.vitmalis import ViTMAlis
from vitmalis.regions import MotionAnalyzer
from vitmalis.regions.grid import RegionGrid
from vitmalis.tracker import TRACKERS, LucasKanadeTracker, Tracker
from vitmalis.types import Configuration, Detections, RgbImage
from vitmalis_jobs.common.timing import HOST, Stopwatch, timed
from vitmalis_jobs.profiling.latency.durations import (
    MAX_PIXELS,
    CodecDurations,
    InferenceDurations,
    Progress,
    typical_mask,
)

QUALITY = 95
"""JPEG quality of the policies that send frames whole."""

OBJECTS = (4, 24)
"""Numbers of boxes that are tracked, from which the costs of a step and of each box follow."""

JOB_FRAMES = (1, 8)
"""Lengths of the tracker jobs, in frames, from which the costs of a job and of each of its frames follow."""

_REPEATS = 3


class WholeTimes(msgspec.Struct, frozen=True):
    """Times of frames that are sent whole: at 1/d of their side, and with half of their regions painted flat."""

    downsampled: WholeFrame
    blanked: WholeFrame


def measure_whole(
    frames: Sequence[RgbImage],
    detect: Callable[[RgbImage], object],
    grid: RegionGrid,
    draws: np.random.Generator,
    progress: Progress,
    stopwatch: Stopwatch = HOST,
) -> WholeTimes:
    """Send frames at 1/d of their side, and with half of their regions painted flat.

    Args:
        frames: RGB uint8 (H, W, 3) of the grid's size.
        detect: the server's model.
        grid: decision regions of the frames.
        draws: of the regions that are painted.
        progress: called after each measurement.
        stopwatch: of the device of `detect`.
    """
    blank = typical_mask(grid, grid.region_patches.size // 2, draws)
    decisions = {
        "downsampled": OffloadDecision(Configuration(quality=QUALITY), frame_downsampling=grid.factor),
        "blanked": OffloadDecision(Configuration(quality=QUALITY), blank_mask=blank),
    }
    small = frames[0][:: grid.factor, :: grid.factor].copy()
    stopwatch.warm_up(lambda: detect(small))  # the first image of a size pays for its layout
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in decisions}
    turns = [(frame, name) for frame in frames[:_REPEATS] for name in decisions]
    for done, (frame, name) in enumerate(turns, 1):
        encoded, encode_s = timed(encode_offload, frame, decisions[name], grid)
        image, decode_s = timed(decode_jpeg, encoded.jpeg, MAX_PIXELS)
        _, inference_s = stopwatch.timed(detect, image)
        rows[name].append((encode_s, decode_s, inference_s))
        progress(done, len(turns), "frames sent whole")
    return WholeTimes(**{name: WholeFrame(**_columns(values)) for name, values in rows.items()})


def _columns(rows: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    names = ("encode_s", "decode_s", "inference_s")
    return {name: median(row[column] for row in rows) for column, name in enumerate(names)}


def measure_tracking(frames: Sequence[RgbImage]) -> tuple[float, dict[int, list[float]]]:
    """Measure `lucas_kanade`: median seconds of its copy of a frame, and seconds of steps by the number of boxes."""
    tracker = LucasKanadeTracker()
    prepared = [timed(tracker.prepare, frame) for frame in frames]
    steps: dict[int, list[float]] = {count: [] for count in OBJECTS}
    for before, after in pairwise(image for image, _ in prepared):
        for count, durations_s in steps.items():
            tracker.restart(before, _lattice(frames[0], count))
            durations_s.append(timed(tracker.step, after)[1])
    return median(duration_s for _, duration_s in prepared), steps


def measure_tracker(tracker: Tracker, frames: Sequence[RgbImage]) -> TrackerTimes:
    """Measure a tracker whose jobs have a cost of their own besides that of each frame."""
    # There and back, so that a few frames give long jobs of consecutive images.
    played = islice(cycle([*frames, *frames[-2:0:-1]]), len(frames) + JOB_FRAMES[-1])
    prepared = [timed(tracker.prepare, frame) for frame in played]
    images = [image for image, _ in prepared]
    jobs: dict[tuple[int, int], list[float]] = {job: [] for job in product(OBJECTS, JOB_FRAMES)}
    for start, ((count, steps), durations_s) in product(range(len(frames)), jobs.items()):
        tracker.restart(images[start], _lattice(frames[0], count))
        durations_s.append(timed(tracker.advance, images[start + 1 : start + 1 + steps])[1])
    known, long = _lattice(frames[0], OBJECTS[-1]), JOB_FRAMES[-1] + 1
    located = [timed(tracker.locate, known, images[start : start + long])[1] for start in range(len(frames))]
    medians = {job: median(durations_s) for job, durations_s in jobs.items()}
    lines = [_line(JOB_FRAMES, [medians[count, steps] for steps in JOB_FRAMES]) for count in OBJECTS]
    job_s, step_s = zip(*lines, strict=True)
    (plain_job_s, job_object_s), (plain_step_s, step_object_s) = _line(OBJECTS, job_s), _line(OBJECTS, step_s)
    return TrackerTimes(
        prepare_s=median(duration_s for _, duration_s in prepared[1:]),
        job_s=plain_job_s,
        job_object_s=job_object_s,
        step_s=plain_step_s,
        step_object_s=step_object_s,
        locate_s=median(located),
        spread=spread(jobs.values()),
    )


def _line(counts: tuple[int, int], seconds: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the line through two durations, neither below 0."""
    (few, many), (few_s, many_s) = counts, seconds
    slope = max(0.0, (many_s - few_s) / (many - few))
    return max(0.0, few_s - few * slope), slope


def measure_motion(frames: Sequence[RgbImage], grid: RegionGrid) -> list[float]:
    """Measure motion analysis, s; without the first frame, which makes the model of the background."""
    analyzer = MotionAnalyzer(grid)
    return [timed(analyzer.analyse, frame)[1] for frame in frames][1:]


def measure_decision(tables: LatencyTables, frame: RgbImage, grid: RegionGrid) -> tuple[float, float]:
    """Measure the full policy: median seconds of estimation and optimization; zeros for a model without estimators."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.json"
        save_latency_tables(tables, path)
        try:
            policy = ViTMAlis(
                latency_tables=str(path),
                model=tables.model,
                window=tables.window,
                downsampling_factor=tables.downsampling_factor,
            )
        except UserError:  # none are trained yet
            return 0.0, 0.0
    analyzer = MotionAnalyzer(grid)
    analyzer.analyse(frame)
    motion = analyzer.analyse(frame[:, ::-1].copy())  # mirrored: everything moves
    state = ClientState(0, grid, 1 / 30, 0.0, tracked=_lattice(frame, 1), motion=motion, results=1)
    decisions = [policy.decide(state) for _ in range(20)]
    return median(d.estimation_s or 0.0 for d in decisions), median(d.optimization_s or 0.0 for d in decisions)


def stage_times(
    tables: LatencyTables,
    frames: Sequence[RgbImage],
    grid: RegionGrid,
    whole: WholeTimes,
    codec: CodecDurations,
    inference_s: InferenceDurations,
) -> StageTimes:
    """Measure the client's stages and assemble them with the server's.

    Args:
        tables: encoding, decoding and inference, for the policy's decisions.
        frames: RGB uint8 (H, W, 3) of the grid's size, at least two.
        grid: decision regions of the frames.
        whole: times of frames that are sent whole.
        codec, inference_s: single durations, for their spread; empty if the server was measured on another host.
    """
    prepare_s, steps = measure_tracking(frames)
    few, many = OBJECTS
    object_s = max(0.0, (median(steps[many]) - median(steps[few])) / (many - few))
    motion_s = measure_motion(frames, grid)
    estimation_s, optimization_s = measure_decision(tables, frames[0], grid)
    return StageTimes(
        prepare_s=prepare_s,
        tracking_step_s=max(0.0, median(steps[few]) - few * object_s),
        tracking_object_s=object_s,
        motion_s=median(motion_s),
        estimation_s=estimation_s,
        optimization_s=optimization_s,
        downsampled=whole.downsampled,
        blanked=whole.blanked,
        spread={
            "encode": spread(codec.encode_s.values()),
            "decode": spread(codec.decode_s.values()),
            "inference": spread(inference_s.values()),
            "tracking": spread(steps.values()),
            "motion": spread([motion_s]),
        },
        trackers={name: measure_tracker(kind(), frames) for name, kind in TRACKERS.items() if name != "lucas_kanade"},
    )


def spread(groups: Iterable[Sequence[float]]) -> float:
    """Standard deviation of the logarithms of durations around the medians of their groups; 0 without any."""
    logs = [np.log(np.array(group) / median(group)) for group in groups if len(group) > 1]
    return float(np.sqrt(np.mean(np.square(np.concatenate(logs))))) if logs else 0.0


def _lattice(image: RgbImage, count: int) -> Detections:
    """Boxes spread over an image, each a tenth of its width and height."""
    height, width = image.shape[:2]
    side = int(np.ceil(np.sqrt(count)))
    at = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:count]
    corner = at * (np.array([width, height]) * 0.85 / side)
    return Detections.of(
        np.concatenate([corner, corner + np.array([width, height]) / 10], 1), [0.9] * count, [0] * count
    )
