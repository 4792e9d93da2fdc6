"""Why a policy decided as it did: plain values, recorded with the offload and drawn by `evaluation.explain`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.types import Detections

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DecisionExplanation:
    """The inputs, the candidates and the choice of one decision; arrays over n candidates are in one order.

    Attributes:
        tracked: objects known.
        region_types: int8 (rows, cols) of `RegionType`.
        region_motion: m_j, float32 (rows, cols).
        relevance: rho_j, float64 (rows, cols).
        frame_motion: m_f, 0..1.
        frames_since_offload: eta, frames.
        retention: kappa, 0..1.
        uplink_mbps, rtt_s: what the network was expected to give.
        tau_d, quality, restoration_point: the candidates' configurations, int64 (n,).
        payload_bytes, e2e_latency_s, f1: what was expected of each, float64 (n,).
        frontier: indices of the Pareto frontier, from the lowest latency to the highest F1.
        knee: index of the knee point, whether or not it was chosen.
        chosen: index of the chosen candidate.
        reason: why that one: `only`, `knee`, `stale` (eta) or `retention` (kappa).
        estimation_s, optimization_s: time spent on estimating all candidates and on choosing among them.
    """

    tracked: Detections
    region_types: NDArray[np.int8]
    region_motion: NDArray[np.float32]
    relevance: Float64Array
    frame_motion: float
    frames_since_offload: int
    retention: float
    uplink_mbps: float
    rtt_s: float
    tau_d: Int64Array
    quality: Int64Array
    restoration_point: Int64Array
    payload_bytes: Float64Array
    e2e_latency_s: Float64Array
    f1: Float64Array
    frontier: Int64Array
    knee: int
    chosen: int
    reason: str
    estimation_s: float
    optimization_s: float
