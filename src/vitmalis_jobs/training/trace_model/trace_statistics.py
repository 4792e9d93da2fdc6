"""Statistics of network traces, by which generated traces are compared with measured ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vitmalis.network.traces import Trace

Array = NDArray[np.float64]

WEAK_MBPS = 1.0
"""A second with a lower rate is weak."""


def trace_statistics(trace: Trace) -> dict[str, float]:
    """Statistics of one trace of 1 s rows; the keys carry the units."""
    rate, rtt = trace.uplink_mbps, trace.rtt_ms
    return {
        "mean_mbps": float(rate.mean()),
        "cv": float(rate.std() / rate.mean()),
        "lag1": lagged_correlation(rate, 1),
        "lag10": lagged_correlation(rate, 10),
        "weak_percent": float(100 * (rate < WEAK_MBPS).mean()),
        "longest_weak_s": float(longest_run(rate < WEAK_MBPS)),
        "halving_percent": float(100 * (rate[1:] < 0.5 * rate[:-1]).mean()),
        "rtt_mean_ms": float(rtt.mean()),
        "rtt_median_ms": float(np.median(rtt)),
        "rtt_p99_ms": float(np.percentile(rtt, 99)),
        "rtt_lag1": lagged_correlation(rtt, 1),
    }


def statistics_frame(traces: Sequence[Trace]) -> pd.DataFrame:
    """Statistics of several traces: a row for each trace, indexed by its name."""
    return pd.DataFrame([trace_statistics(trace) for trace in traces], index=[trace.name for trace in traces])


def lagged_correlation(values: Array, lag: int) -> float:
    """Autocorrelation of a series at `lag` rows; 0 for a constant one."""
    early, late = values[:-lag], values[lag:]
    if early.std() == 0 or late.std() == 0:
        return 0.0
    return float(np.corrcoef(early, late)[0, 1])


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
