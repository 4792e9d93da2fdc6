"""Decision regret: the F1 that is lost by choosing configurations with estimates in place of the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitmalis.estimation.features import Candidates
from vitmalis.estimation.latency import LatencyTables, e2e_latency_s
from vitmalis_jobs.training.estimation.sample_set import SampleSet

FloatArray = NDArray[np.float64]

UPLINKS_MBPS = (2.0, 5.0, 10.0, 20.0)
BUDGETS = (0.25, 0.5, 0.75)
"""Latency budgets of each frame, as quantiles of the latencies of its configurations."""


def decision_regret(rows: SampleSet, estimate: FloatArray, tables: LatencyTables) -> float:
    """Mean loss of F1 over frames, uplinks and latency budgets.

    Each time, the configuration with the highest estimate is chosen among those whose offload, with its true payload,
    keeps to the budget; of equal ones the fastest. It loses its F1 to the best of them. Even the mean of each
    configuration over the clip loses some, as no estimator can know which box of a single frame is missed by chance:
    compare regrets of one table with each other.

    Args:
        rows: samples of the F1.
        estimate: of each row (n,).
        tables: latencies by configuration.

    Returns:
        F1, weighted by the boxes of the frames.
    """
    latency_s = np.stack([_latency_s(rows, tables, uplink_mbps) for uplink_mbps in UPLINKS_MBPS])
    regrets, weights = [], []
    for frame in np.unique(rows.frame):
        own = np.flatnonzero(rows.frame == frame)
        losses = [
            _loss(rows.values[own], estimate[own], of_uplink, share)
            for of_uplink in latency_s[:, own]
            for share in BUDGETS
        ]
        regrets.append(np.mean(losses))
        weights.append(rows.weights[own].mean())
    return float(np.average(regrets, weights=weights))


def _loss(f1: FloatArray, estimate: FloatArray, latency_s: FloatArray, share: float) -> float:
    """F1 lost in one decision among the configurations of a frame."""
    within = np.flatnonzero(latency_s <= np.quantile(latency_s, share))
    chosen = within[np.lexsort((latency_s[within], -estimate[within]))[0]]
    return float(f1[within].max() - f1[chosen])


def _latency_s(rows: SampleSet, tables: LatencyTables, uplink_mbps: float) -> FloatArray:
    """Latency of each row's offload (n,), without propagation, which is the same for all."""
    tau_d, quality, point = (
        rows.features[:, rows.names.index(name)].astype(np.int64) for name in ("tau_d", "quality", "restoration_point")
    )
    downsampled = rows.downsampled_share * tables.regions
    candidates = Candidates.uncached(tau_d, quality, point)
    return e2e_latency_s(tables, candidates, downsampled, rows.payload_bytes, uplink_mbps, 0.0)
