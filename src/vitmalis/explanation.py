"""Why a policy decided as it did: inputs, candidates and choice, recorded with the offload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.columns import column
from vitmalis.types import Detections

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

REGION_COLUMNS = ("region_types", "region_motion", "relevance")
"""Arrays of shape (rows, cols), one value for each decision region."""
REWARD_REASONS = frozenset({"explore", "exploit"})
"""Reasons of `bandit`, which expects a reward in place of an F1: how well tracked boxes agree with the next result."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DecisionExplanation:
    """The inputs, the candidates and the choice of one decision.

    Shapes: `REGION_COLUMNS` are (rows, cols); `frontier` is (k,); the other arrays are (n,), one value for each
    candidate, in one order, and `cached_regions` is None where no candidate has any. `tracked` are the objects known.
    """

    region_types: NDArray[np.int8] = column("1", "type of each region: 0 SBR, 1 CMR, 2 DOR")
    region_motion: NDArray[np.float32] = column("1", "m_j of each region, 0..1")
    relevance: Float64Array = column("1", "rho_j of each region, 0..1")
    frame_motion: float = column("1", "m_f, 0..1")
    frames_since_offload: int = column("frame", "eta")
    retention: float = column("1", "kappa, 0..1")
    uplink_mbps: float = column("Mbps", "throughput expected")
    rtt_s: float = column("s", "both propagation delays expected")
    tau_d: Int64Array = column("1", "of each candidate: what is downsampled")
    quality: Int64Array = column("1", "of each candidate: JPEG quality")
    restoration_point: Int64Array = column("1", "of each candidate: beta")
    payload_bytes: Float64Array = column("byte", "of each candidate: estimated size")
    e2e_latency_s: Float64Array = column("s", "of each candidate: estimated latency")
    f1: Float64Array = column("1", "of each candidate: estimated inference accuracy, or the reward of bandit, 0..1")
    cached_regions: Int64Array | None = column(
        "region",
        "of each candidate: regions that take their tokens from an earlier frame; null: no candidate does",
        None,
    )
    frontier: Int64Array = column("1", "candidates on the Pareto frontier, from the fastest")
    knee: int = column("1", "candidate at the knee of the frontier")
    chosen: int = column("1", "candidate that was chosen")
    reason: str = column("name", "why: only, knee, stale (eta), retention (kappa), freshness, explore or exploit")
    tracked: Detections

    @property
    def expects_reward(self) -> bool:
        """Whether `f1` is an expected reward; a size or latency of 0 then means that none is known yet."""
        return self.reason in REWARD_REASONS
