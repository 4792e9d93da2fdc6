"""Durations of codec and inference on real frames; cases come in random order, so that drift affects all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.detector import BaseDetector
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Configuration, RgbImage
from vitmalis_jobs.common.timing import HOST, Stopwatch, timed

Progress = Callable[[float, float, str], None]
"""Called with the measurements done, their number in all, and what is measured."""

InferenceDurations = Mapping[tuple[int, int], Sequence[float]]
"""Seconds of single inferences by (restoration point, N_d); N_d = 0 is the plain model, stored for point 0."""

MAX_PIXELS = 2**31
_MASK_DRAWS = 64
GPU_ROUNDS = 10
"""Rounds of inference on a GPU for each on a processor: a call takes milliseconds there, and varies by as much."""


@dataclass(slots=True)
class CodecDurations:
    """Seconds of single encodings and decodings by (N_d, quality)."""

    encode_s: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    decode_s: dict[tuple[int, int], list[float]] = field(default_factory=dict)


def typical_mask(grid: RegionGrid, downsampled_regions: int, draws: np.random.Generator) -> BoolMask:
    """Draw a mask of N_d regions with as many tokens as such masks have on average, since border regions are small."""
    regions = grid.region_patches.size
    share = downsampled_regions / regions
    patches = grid.region_patches.ravel()
    chosen = [draws.permutation(regions)[:downsampled_regions] for _ in range(_MASK_DRAWS)]
    best = min(chosen, key=lambda rows: abs(patches[rows].sum() - share * patches.sum()))
    mask = np.zeros(regions, np.bool_)
    mask[best] = True
    return mask.reshape(grid.shape)


def measure_codec(
    frames: Sequence[RgbImage],
    grid: RegionGrid,
    counts: Iterable[int],
    qualities: Iterable[int],
    repeats: int,
    draws: np.random.Generator,
    progress: Progress,
) -> CodecDurations:
    """Pack and compress, then decompress and unpack each frame with every number of downsampled regions and quality.

    Args:
        frames: RGB uint8 (H, W, 3) of the grid's size.
        grid: decision regions of the frames.
        counts, qualities: N_d and lambda.
        repeats: measurements of each frame, each with another mask.
        draws: of masks and order.
        progress: called after each measurement.
    """
    durations = CodecDurations()
    cases = [(count, quality, frame) for count in counts for quality in qualities for frame in range(len(frames))]
    tasks = _shuffled(cases, repeats, draws)
    for done, (count, quality, frame) in enumerate(tasks, 1):
        mask = typical_mask(grid, count, draws)
        decision = OffloadDecision(Configuration(quality=quality), downsample_mask=mask)
        encoded, encode_s = timed(encode_offload, frames[frame], decision, grid)
        _, decode_s = timed(_decode, encoded.jpeg, grid, mask)
        durations.encode_s.setdefault((count, quality), []).append(encode_s)
        durations.decode_s.setdefault((count, quality), []).append(decode_s)
        progress(done, len(tasks), "encoding and decoding")
    return durations


def _decode(jpeg: bytes, grid: RegionGrid, mask: BoolMask) -> object:
    sent = decode_jpeg(jpeg, MAX_PIXELS)
    return unpack(sent, grid, mask) if mask.any() else sent


def measure_inference(
    frames: Sequence[RgbImage],
    detector: BaseDetector,
    counts: Iterable[int],
    points: Iterable[int],
    repeats: int,
    draws: np.random.Generator,
    progress: Progress,
    stopwatch: Stopwatch = HOST,
) -> dict[tuple[int, int], list[float]]:
    """Detect objects in packed frames; returns `InferenceDurations`.

    Args:
        frames: RGB uint8 (H, W, 3), all of one size.
        detector: the server's.
        counts, points: N_d and beta.
        repeats: measurements of each case, each with another frame and mask, after a first round that is not counted;
            `GPU_ROUNDS` times as many on a GPU.
        draws: of masks and order.
        progress: called after each measurement.
        stopwatch: of the detector's device.
    """
    height, width = frames[0].shape[:2]
    grid = detector.geometry.grid(width, height)
    durations: dict[tuple[int, int], list[float]] = {}
    cases = [(point, count) for count in counts for point in (points if count else (0,))]
    warm_up = [case for case in cases if stopwatch.on_gpu or case[1] in (0, max(counts))]
    tasks = [*warm_up, *_shuffled(cases, repeats * (GPU_ROUNDS if stopwatch.on_gpu else 1), draws)]
    for number, (point, count) in enumerate(tasks):
        frame = frames[int(draws.integers(len(frames)))]
        elapsed_s = _inference_s(detector, frame, grid, typical_mask(grid, count, draws), point, stopwatch)
        if number >= len(warm_up):
            durations.setdefault((point, count), []).append(elapsed_s)
        progress(number + 1, len(tasks), "inference")
    return durations


def _inference_s(
    detector: BaseDetector, frame: RgbImage, grid: RegionGrid, mask: BoolMask, point: int, stopwatch: Stopwatch
) -> float:
    jpeg = encode_offload(frame, OffloadDecision(Configuration(quality=90), downsample_mask=mask), grid).jpeg
    sent = decode_jpeg(jpeg, MAX_PIXELS)
    if not mask.any():
        return stopwatch.timed(detector.detect, sent)[1]
    return stopwatch.timed(detector.detect_patches, unpack(sent, grid, mask), frame.shape[:2], mask, point)[1]


def _shuffled(cases: Sequence[tuple[int, ...]], repeats: int, draws: np.random.Generator) -> list[tuple[int, ...]]:
    """All cases `repeats` times, each round in its own order."""
    return [cases[position] for _ in range(repeats) for position in draws.permutation(len(cases))]
