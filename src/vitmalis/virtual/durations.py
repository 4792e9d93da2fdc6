"""Durations of the stages on the virtual clock: medians of latency tables, or seeded samples around them."""

from __future__ import annotations

import zlib

import numpy as np

from vitmalis.errors import UserError
from vitmalis.estimation.latency import LatencyTables
from vitmalis.estimation.stage_times import StageTimes, TrackerTimes, WholeFrame
from vitmalis.offload import OffloadDecision
from vitmalis.regions.treatment import Treatment, treated


class Durations:
    """Durations of the stages of a run, seconds.

    A duration depends on the work, and with `seed` on the number of the frame or offload; never on earlier calls, so
    that two policies meet the same slow moments.

    Args:
        tables: latency tables with stage times, for frames of the played size.
        seed: of log-normal samples with the tables' spread around their medians; None for the medians themselves.
        tracker: name of the client's tracker in the tables, or its durations.

    Raises:
        UserError: the tables have no stages, or not this tracker.
    """

    def __init__(
        self, tables: LatencyTables, seed: int | None = None, tracker: str | TrackerTimes = "lucas_kanade"
    ) -> None:
        if tables.stages is None:
            raise UserError(
                f"latency tables of {tables.model} on {tables.device} have no stages, which the virtual clock needs: "
                "measure them with `python -m profiling.latency`"
            )
        times = tables.stages.tracker(tracker) if isinstance(tracker, str) else tracker
        if times is None:
            raise UserError(
                f"latency tables of {tables.model} on {tables.device} have no tracker '{tracker}': "
                "measure them again with `python -m profiling.latency`"
            )
        self._tables = tables
        self._tracker: TrackerTimes = times
        self._stages: StageTimes = tables.stages
        self._seed = seed

    def prepare_s(self, frame_index: int) -> float:
        """Time to prepare a frame for the tracker."""
        return self._tracker.prepare_s * self._factor("tracking", frame_index, self._tracker.spread)

    def tracking_s(self, frame_index: int, objects: int, steps: int) -> float:
        """Time of a tracker job that ends at this frame."""
        return self._tracker.tracking_s(objects, steps) * self._factor("tracking", frame_index, self._tracker.spread)

    def locating_s(self, frame_index: int, objects: int) -> float:
        """Time of locating boxes in this frame before a decision."""
        return self._tracker.locating_s(objects) * self._factor("tracking", frame_index, self._tracker.spread)

    def motion_s(self, frame_index: int) -> float:
        """Time to analyse the motion of a frame."""
        return self._stages.motion_s * self._factor("motion", frame_index)

    def decision_s(self, decision: OffloadDecision) -> tuple[float, float]:
        """Times of estimation and optimization; zero for a policy that does neither."""
        return self.search_s(decision) if decision.explanation else (0.0, 0.0)

    def search_s(self, decision: OffloadDecision) -> tuple[float, float]:
        """Times of estimation, zero if it was made ahead, and optimization of a policy that weighs alternatives."""
        estimation_s = self.estimation_s if decision.estimates_age_frames is None else 0.0
        return estimation_s, self._stages.optimization_s

    @property
    def estimation_s(self) -> float:
        """Time to estimate all candidates."""
        return self._stages.estimation_s

    def encode_s(self, offload_id: int, decision: OffloadDecision) -> float:
        """Time to pack and compress the offload's frame."""
        whole, packed = self._whole(decision), sum(_low_and_cached(decision))
        median_s = whole.encode_s if whole else float(self._tables.encode_s(packed, decision.configuration.quality))
        return median_s * self._factor("encode", offload_id)

    def decode_s(self, offload_id: int, decision: OffloadDecision) -> float:
        """Time to decompress and unpack it."""
        whole = self._whole(decision)
        return (whole.decode_s if whole else self._tables.decode_s) * self._factor("decode", offload_id)

    def inference_s(self, offload_id: int, decision: OffloadDecision) -> float:
        """Time of the model's forward pass."""
        whole, (low, cached) = self._whole(decision), _low_and_cached(decision)
        point = decision.configuration.restoration_point if low or cached else 0
        median_s = whole.inference_s if whole else float(self._tables.inference_s(low, point, cached))
        return median_s * self._factor("inference", offload_id)

    def _whole(self, decision: OffloadDecision) -> WholeFrame | None:
        factor, profiled = decision.frame_downsampling, self._tables.downsampling_factor
        if factor == profiled:
            return self._stages.downsampled
        if factor != 1:
            raise UserError(f"a frame made {factor} times smaller was not profiled, only one {profiled} times smaller")
        masks = decision.blank_mask, decision.coarse_mask
        return self._stages.blanked if any(mask is not None and mask.any() for mask in masks) else None

    def _factor(self, stage: str, number: int, spread: float | None = None) -> float:
        """Ratio of a sample to its median, by the stage's spread if none is given; 1 without a seed."""
        if self._seed is None:
            return 1.0
        draws = np.random.default_rng((self._seed, zlib.crc32(stage.encode()), number))
        return float(draws.lognormal(0.0, self._stages.spread.get(stage, 0.0) if spread is None else spread))


def _low_and_cached(decision: OffloadDecision) -> tuple[int, int]:
    """Numbers of regions at low resolution, and of cached ones."""
    regions = treated(decision.downsample_mask, decision.cached_mask)
    low, cached = (0 if regions is None else int((regions == way).sum()) for way in (Treatment.LOW, Treatment.CACHED))
    return low, cached
