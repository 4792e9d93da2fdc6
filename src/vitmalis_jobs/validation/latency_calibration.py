"""Calibration of latency tables to the speed that a machine had during real-time runs.

The speed of a shared machine changes within minutes, by a third and more, and tables hold for the moment at which they
were measured. To compare two clocks and not two moments, the virtual clock gets the durations of the runs that it is
compared with: the tables, with each stage multiplied by a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from vitmalis.estimation.latency import LatencyTables
from vitmalis.estimation.stage_times import StageTimes, WholeFrame
from vitmalis.offload import OffloadDecision
from vitmalis.virtual.durations import Durations
from vitmalis_jobs.run.quiet_time import as_decided
from vitmalis_jobs.run.records import RunRecords


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Duration of each stage in real runs relative to the tables; 1 for a stage that a policy does not have."""

    encode: float = 1.0
    decode: float = 1.0
    inference: float = 1.0
    tracking: float = 1.0
    motion: float = 1.0
    decision: float = 1.0


def observed_speed(real: Sequence[RunRecords], virtual: RunRecords, tables: LatencyTables) -> Speed:
    """Compare real-time runs with a virtual run of the same clip, trace and policy that used `tables`.

    The stages of an offload are compared with the tables' durations of the same offload; the client's other stages,
    whose work is not recorded, in medians, the tracker in the first deciles: the time of a frame with one step and
    nothing else. How many frames have a catch-up or a decision besides depends on the speed itself.

    Args:
        real, virtual: records of the runs.
        tables: tables with stages.

    Raises:
        UserError: the tables have no stages.
    """
    durations = Durations(tables)
    answered = [(offload, as_decided(offload)) for run in real for offload in run.offloads if offload.status == "ok"]

    def offload_factor(stage: str) -> float:
        expected: Callable[[int, OffloadDecision], float] = getattr(durations, stage)
        factors = (getattr(o, stage) / expected(0, decision) for o, decision in answered if getattr(o, stage))
        return _quantile(factors) or 1.0

    def client_factor(stage: str, rows: str, share: float = 0.5) -> float:
        theirs = _quantile((getattr(row, stage) for run in real for row in getattr(run, rows)), share)
        ours = _quantile((getattr(row, stage) for row in getattr(virtual, rows)), share)
        return theirs / ours if theirs and ours else 1.0

    return Speed(
        encode=offload_factor("encode_s"),
        decode=offload_factor("decode_s"),
        inference=offload_factor("inference_s"),
        tracking=client_factor("tracking_s", "frames", share=0.1),
        motion=client_factor("motion_s", "offloads"),
        decision=client_factor("estimation_s", "offloads"),
    )


def at_speed(tables: LatencyTables, speed: Speed) -> LatencyTables:
    """Scale tables to a machine that is slower by these factors; spreads stay as they are."""
    replace = msgspec.structs.replace
    rows = tuple(tuple(speed.encode * value for value in row) for row in tables.encode.encode_s)
    return replace(
        tables,
        encode=replace(tables.encode, encode_s=rows),
        decode_s=speed.decode * tables.decode_s,
        inference=tuple(
            replace(fit, intercept_s=speed.inference * fit.intercept_s, slope_s=speed.inference * fit.slope_s)
            for fit in tables.inference
        ),
        stages=None if tables.stages is None else _stages_at(tables.stages, speed),
        host=tables.host | {"speed": msgspec.structs.asdict(speed)},
    )


def _stages_at(stages: StageTimes, speed: Speed) -> StageTimes:
    def whole(frame: WholeFrame) -> WholeFrame:
        return WholeFrame(
            encode_s=speed.encode * frame.encode_s,
            decode_s=speed.decode * frame.decode_s,
            inference_s=speed.inference * frame.inference_s,
        )

    return msgspec.structs.replace(
        stages,
        prepare_s=speed.tracking * stages.prepare_s,
        tracking_step_s=speed.tracking * stages.tracking_step_s,
        tracking_object_s=speed.tracking * stages.tracking_object_s,
        trackers={name: times.slower(speed.tracking) for name, times in stages.trackers.items()},
        motion_s=speed.motion * stages.motion_s,
        estimation_s=speed.decision * stages.estimation_s,
        optimization_s=speed.decision * stages.optimization_s,
        downsampled=whole(stages.downsampled),
        blanked=whole(stages.blanked),
    )


def _quantile(values: Iterable[float | None], share: float = 0.5) -> float:
    """A quantile of the values that are known, 0 if none is."""
    known = [value for value in values if value is not None]
    return float(np.quantile(known, share)) if known else 0.0
