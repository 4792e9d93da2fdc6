"""How long stages take on this machine: offloads of real frames in random order, so that drift meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.offload import encode_offload
from vitmalis.codec.packing import unpack
from vitmalis.detector import Detector
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Configuration, RgbImage

Progress = Callable[[int, int, str], None]
"""Called with measurements done, how many there will be, and of what."""

MAX_PIXELS = 2**31
_MASK_DRAWS = 64


@dataclass(slots=True)
class CodecDurations:
    """Seconds by (N_d, quality)."""

    encode_s: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    decode_s: dict[tuple[int, int], list[float]] = field(default_factory=dict)


def typical_mask(grid: RegionGrid, downsampled_regions: int, draws: np.random.Generator) -> BoolMask:
    """Draw a mask of so many regions with as many tokens as such masks have on average: border regions are small."""
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
        grid: their regions.
        counts, qualities: N_d and lambda.
        repeats: how often for each frame, with another mask each time.
        draws: of masks and order.
        progress: told after each measurement.
    """
    durations = CodecDurations()
    cases = [(count, quality, frame) for count in counts for quality in qualities for frame in range(len(frames))]
    tasks = _shuffled(cases, repeats, draws)
    for done, (count, quality, frame) in enumerate(tasks, 1):
        mask = typical_mask(grid, count, draws)
        decision = OffloadDecision(Configuration(quality=quality), downsample_mask=mask)
        start_s = time.perf_counter()
        jpeg = encode_offload(frames[frame], decision, grid).jpeg
        encoded_s = time.perf_counter()
        sent = decode_jpeg(jpeg, MAX_PIXELS)
        if count:
            unpack(sent, grid, mask)
        decoded_s = time.perf_counter()
        durations.encode_s.setdefault((count, quality), []).append(encoded_s - start_s)
        durations.decode_s.setdefault((count, quality), []).append(decoded_s - encoded_s)
        progress(done, len(tasks), "encoding and decoding")
    return durations


def measure_inference(
    frames: Sequence[RgbImage],
    detector: Detector,
    counts: Iterable[int],
    points: Iterable[int],
    repeats: int,
    draws: np.random.Generator,
    progress: Progress,
) -> dict[tuple[int, int], list[float]]:
    """Detect in packed frames: seconds by (restoration point, N_d); N_d = 0 is the plain model, kept for point 0.

    Args:
        frames: RGB uint8 (H, W, 3), all of one size.
        detector: the server's.
        counts, points: N_d and beta.
        repeats: how often, with another frame and mask each time; a first round is not counted.
        draws: of masks and order.
        progress: told after each measurement.
    """
    grid = detector.config.region_grid(*frames[0].shape[:2])
    durations: dict[tuple[int, int], list[float]] = {}
    cases = [(point, count) for count in counts for point in (points if count else (0,))]
    tasks = [*(case for case in cases if case[1] in (0, max(counts))), *_shuffled(cases, repeats, draws)]
    warming = len(tasks) - repeats * len(cases)
    for number, (point, count) in enumerate(tasks):
        frame = frames[int(draws.integers(len(frames)))]
        mask = typical_mask(grid, count, draws)
        elapsed_s = _inference_s(detector, frame, grid, mask, point)
        if number >= warming:
            durations.setdefault((point, count), []).append(elapsed_s)
        progress(number + 1, len(tasks), "inference")
    return durations


def _inference_s(detector: Detector, frame: RgbImage, grid: RegionGrid, mask: BoolMask, point: int) -> float:
    jpeg = encode_offload(frame, OffloadDecision(Configuration(quality=90), downsample_mask=mask), grid).jpeg
    sent = decode_jpeg(jpeg, MAX_PIXELS)
    if not mask.any():
        start_s = time.perf_counter()
        detector.detect(sent)
        return time.perf_counter() - start_s
    patches = unpack(sent, grid, mask)
    start_s = time.perf_counter()
    detector.detect_patches(patches, frame.shape[:2], mask, point)
    return time.perf_counter() - start_s


def _shuffled(cases: Sequence[tuple[int, ...]], repeats: int, draws: np.random.Generator) -> list[tuple[int, ...]]:
    """All cases so many times, each round in an order of its own."""
    return [cases[place] for _ in range(repeats) for place in draws.permutation(len(cases))]
