"""Latency tables of the paper's testbed: a Jetson Orin Nano offloads 1080p frames to an RTX 5090 with ViTDet-L.

Stated values are used as they are. The assumptions between and beyond them are few:

- Inference (sections I and III): 281 ms for a 1080p frame, 39 ms for a 360p frame. A line through the two over the
  FLOPs of ViTDet-L gives every other cost, also those of mixed resolution and of smaller frames. It is nearly a
  proportion: the line starts at 1.6 ms. Pyramid and head have 14 % of a 1080p frame's FLOPs; as regions are restored
  before them, their time is the same for every mask and restoration point.
- The stated times are with the paper's window 9 and downsampling factor 2. The window stays 9, as the run's detector is
  not ViTDet-L; the factor is the run's.
- Codec (section VI-B, Fig. 10): medians of encoding and decoding together are 30 ms for full frames and for TrackUD's,
  38 ms for TrackRoI's, 39 ms for ViTMAlis'. How they are divided is not stated: decoding is taken as 10 ms throughout.
  No dependence on quality or on the number of downsampled regions is stated, so there is none. Most of TrackUD's frames
  are full ones; a smaller one is coded for its share of the pixels. Making it smaller is taken to cost nothing.
- Overhead (section VI-B, Fig. 11): motion analysis 10 ms, estimation 9 ms, optimisation 2 ms.
- The tracker's time is not stated: 10 ms a step, well within a frame interval, for any number of objects. `FLOW_CACHE`
  takes shares of it, as measured next to it with ten objects in 960x540 frames on one core (docs/trackers.md).

A run's frames have fewer regions than a 1080p frame; the share of downsampled regions counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.detector.config import DetectorConfig, preset
from vitmalis.detector.flops import rcnn_flops, vit_cost
from vitmalis.estimation.latency import EncodeTable, InferenceFit, LatencyTables
from vitmalis.estimation.stage_times import StageTimes, TrackerTimes, WholeFrame
from vitmalis.regions.grid import RegionGrid

FULL_HD, NHD = (1080, 1920), (360, 640)
"""(height, width) of the two frames whose inference time is stated."""
INFERENCE_S = {FULL_HD: 0.281, NHD: 0.039}
DECODE_S, ENCODE_S, PACK_AND_ENCODE_S, BLANK_AND_ENCODE_S = 0.010, 0.020, 0.029, 0.028
MOTION_S, ESTIMATION_S, OPTIMIZATION_S, TRACKING_STEP_S = 0.010, 0.009, 0.002, 0.010
FLOW_CACHE = TrackerTimes(
    prepare_s=0.45 * TRACKING_STEP_S,
    job_s=0.65 * TRACKING_STEP_S,
    step_s=0.03 * TRACKING_STEP_S,
    locate_s=1.05 * TRACKING_STEP_S,
)
WINDOW, FACTOR = 9, 2
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the regions that are downsampled, through whose times LM^inf is fitted."""
_MASKS = 8
_QUALITIES = (70, 100)


def paper_testbed(model_id: str, model: str, grid: RegionGrid, restoration_points: int) -> LatencyTables:
    """Build latency tables of the paper's testbed for a run with other frames and another model.

    Args:
        model_id, model: the run's detector, which stands for ViTDet-L.
        grid: decision regions of the run's frames.
        restoration_points: N of the run's detector.
    """
    vitdet_l = preset("vitdet_l").with_geometry(WINDOW, grid.factor)
    regions = grid.region_patches.size
    return jetson_tables(
        model_id,
        model,
        grid,
        server="RTX 5090 (as published)",
        inference=tuple(_line(vitdet_l, point, regions) for point in range(restoration_points + 1)),
        full_s=INFERENCE_S[FULL_HD],
        downsampled_s=inference_s(vitdet_l, downsampled_size(FULL_HD, grid.factor)),
        host={"source": "figures stated in the ViTMAlis paper, see vitmalis.virtual.testbed"},
    )


def jetson_tables(
    model_id: str,
    model: str,
    grid: RegionGrid,
    *,
    server: str,
    inference: tuple[InferenceFit, ...],
    full_s: float,
    downsampled_s: float,
    host: dict[str, Any],
) -> LatencyTables:
    """Build latency tables of the paper's device, with its codec and overhead, and some server.

    Args:
        model_id, model, grid: as of `paper_testbed`.
        server: name of the server.
        inference: LM_inf of each restoration point, over the regions of `grid`.
        full_s, downsampled_s: inference time of a 1080p frame, and of one that is smaller by the factor of `grid`.
        host: facts about where the durations come from.
    """
    codec_share = math.prod(downsampled_size(FULL_HD, grid.factor)) / math.prod(FULL_HD)
    return LatencyTables(
        device="Jetson Orin Nano (as published)",
        server=server,
        model=model,
        model_id=model_id,
        width_px=grid.width_px,
        height_px=grid.height_px,
        regions=grid.region_patches.size,
        window=grid.window,
        downsampling_factor=grid.factor,
        encode=EncodeTable(
            downsampled_regions=(0, 1),
            qualities=_QUALITIES,
            encode_s=((ENCODE_S,) * len(_QUALITIES), (PACK_AND_ENCODE_S,) * len(_QUALITIES)),
        ),
        decode_s=DECODE_S,
        inference=inference,
        stages=StageTimes(
            prepare_s=0.0,
            tracking_step_s=TRACKING_STEP_S,
            tracking_object_s=0.0,
            motion_s=MOTION_S,
            estimation_s=ESTIMATION_S,
            optimization_s=OPTIMIZATION_S,
            downsampled=WholeFrame(
                encode_s=codec_share * ENCODE_S, decode_s=codec_share * DECODE_S, inference_s=downsampled_s
            ),
            blanked=WholeFrame(encode_s=BLANK_AND_ENCODE_S, decode_s=DECODE_S, inference_s=full_s),
            trackers={"flow_cache": FLOW_CACHE},
        ),
        host=host,
    )


def downsampled_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """(height, width) of a whole frame that is made smaller by a factor along each axis, as TrackUD sends it."""
    height_px, width_px = size
    return -(-height_px // factor), -(-width_px // factor)


def inference_s(
    config: DetectorConfig, size: tuple[int, int], mask: NDArray[np.bool_] | None = None, point: int = 0
) -> float:
    """Inference time of a frame of (height, width) pixels, from the line through the two stated times."""
    papers = config.with_geometry(WINDOW, FACTOR)
    stated = sorted((_flops(papers, size), duration_s) for size, duration_s in INFERENCE_S.items())
    (few, few_s), (many, many_s) = stated
    return few_s + (many_s - few_s) * (_flops(config, size, mask, point) - few) / (many - few)


def _flops(config: DetectorConfig, size: tuple[int, int], mask: NDArray[np.bool_] | None = None, point: int = 0) -> int:
    grid = config.region_grid(*size)
    return vit_cost(config.vit, grid, mask, point).flops + rcnn_flops(config, grid)


def _line(config: DetectorConfig, point: int, regions: int) -> InferenceFit:
    """Fit LM^inf over the run's regions, from 1080p frames with equal shares of their regions downsampled."""
    shape, draws = config.region_grid(*FULL_HD).shape, np.random.default_rng(point)
    seconds = [
        np.mean([inference_s(config, FULL_HD, mask, point) for mask in drawn_masks(shape, share, draws)])
        for share in SHARES
    ]
    return InferenceFit.through(point, np.array(SHARES) * regions, seconds)


def drawn_masks(shape: tuple[int, int], share: float, draws: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Draw masks (rows, cols) with a share of the regions downsampled."""
    regions = shape[0] * shape[1]
    for _ in range(_MASKS):
        yield draws.permutation(np.arange(regions) < round(share * regions)).reshape(shape)
