"""What a study's numbers carry: complete pairs, paired differences and their intervals. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 5000
FEWEST_PAIRS = 5
"""Of fewer no interval is told: resampling them says nothing of other clips and traces."""
SEED = 1906

Floats = NDArray[np.float64]


def by_pair(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a pair of clip and trace, one column a policy; only pairs that every policy has."""
    table = runs.pivot_table(index=["clip", "trace"], columns="policy", values=metric, aggfunc="last")
    return table.dropna()


def incomplete_pairs(runs: pd.DataFrame) -> int:
    """Pairs of clip and trace that at least one policy lacks, and that comparisons leave out."""
    table = runs.pivot_table(index=["clip", "trace"], columns="policy", values="frames", aggfunc="last")
    return int(table.isna().any(axis=1).sum())


@dataclass(frozen=True, slots=True)
class Difference:
    """One policy beside another over the same pairs.

    Attributes:
        policy, beside: the two.
        pairs: how many.
        mean: of policy less beside.
        low, high: 95 % interval of the mean (bootstrap over pairs, BCa); NaN with too few pairs.
        better: share of pairs in which policy is higher.
    """

    policy: str
    beside: str
    pairs: int
    mean: float
    low: float
    high: float
    better: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return bool(self.low > 0 or self.high < 0)

    @property
    def verdict(self) -> str:
        """In words."""
        if np.isnan(self.low):
            return f"{self.pairs} pair(s) are too few for an interval"
        if not self.significant:
            return "not significant: the interval holds 0"
        return "higher" if self.mean > 0 else "lower"


def difference(table: pd.DataFrame, policy: str, beside: str) -> Difference:
    """Compare two columns of `by_pair`."""
    values = (table[policy] - table[beside]).to_numpy(np.float64)
    low, high = mean_interval(values)
    return Difference(policy, beside, len(values), float(values.mean()), low, high, float((values > 0).mean()))


def mean_interval(values: Floats) -> tuple[float, float]:
    """Interval of the mean of values (n,); NaN where they are too few, the value itself where all are equal."""
    if len(values) < FEWEST_PAIRS:
        return float("nan"), float("nan")
    if np.ptp(values) < 1e-12:
        return float(values[0]), float(values[0])
    draws = np.random.default_rng(SEED)
    found = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=draws)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def ratio_cut(table: pd.DataFrame, policy: str, beside: str) -> tuple[float, float, float]:
    """By how many per cent the median over pairs of one policy is below the other's, with its interval."""
    pairs = table[[policy, beside]].to_numpy(np.float64)

    def cut(one: Floats, other: Floats, axis: int = -1) -> Floats:
        return 100 * (1 - np.median(one, axis=axis) / np.median(other, axis=axis))

    value = float(cut(pairs[:, 0], pairs[:, 1]))
    if len(pairs) < FEWEST_PAIRS:
        return value, float("nan"), float("nan")
    draws = np.random.default_rng(SEED)
    columns = pairs[:, 0], pairs[:, 1]
    found = bootstrap(columns, cut, paired=True, method="percentile", n_resamples=RESAMPLES, rng=draws)
    return value, float(found.confidence_interval.low), float(found.confidence_interval.high)


def gap_closed(table: pd.DataFrame, policy: str, floor: str = "trackb2b", ceiling: str = "oracle") -> float:
    """Share of the mean gap between two policies that a third closes; NaN where there is no gap."""
    gap = float((table[ceiling] - table[floor]).mean())
    return float((table[policy] - table[floor]).mean()) / gap if gap > 0 else float("nan")
