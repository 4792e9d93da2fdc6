"""What a study's numbers carry: complete pairs, paired differences and their intervals. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 5000
FEWEST = 5
"""Of fewer pairs or clips no interval is told: resampling them says nothing of others."""
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
        clips: how many clips the pairs are of.
        clips_low, clips_high: the same interval by bootstrap over clips, each with its mean: pairs of one clip share
            its frames, so that they are no independent samples of what other clips would show. NaN with too few clips.
        better: share of pairs in which policy is higher.
    """

    policy: str
    beside: str
    pairs: int
    mean: float
    low: float
    high: float
    clips: int
    clips_low: float
    clips_high: float
    better: float

    @property
    def significant(self) -> bool:
        """Whether the interval over pairs leaves out 0."""
        return _leaves_out_zero(self.low, self.high)

    @property
    def verdict(self) -> str:
        """In words."""
        if np.isnan(self.low):
            return f"{self.pairs} pair(s) are too few for an interval"
        if not self.significant:
            return "not significant: the interval holds 0"
        found = "higher" if self.mean > 0 else "lower"
        if np.isnan(self.clips_low) or _leaves_out_zero(self.clips_low, self.clips_high):
            return found
        return f"{found} on these clips; over clips the interval holds 0"


def _leaves_out_zero(low: float, high: float) -> bool:
    return bool(low > 0 or high < 0)


def difference(table: pd.DataFrame, policy: str, beside: str) -> Difference:
    """Compare two columns of `by_pair`."""
    values = (table[policy] - table[beside]).to_numpy(np.float64)
    low, high = mean_interval(values)
    of_clips = (table[policy] - table[beside]).groupby(level="clip").mean().to_numpy(np.float64)
    clips_low, clips_high = mean_interval(of_clips)
    return Difference(
        policy=policy,
        beside=beside,
        pairs=len(values),
        mean=float(values.mean()),
        low=low,
        high=high,
        clips=len(of_clips),
        clips_low=clips_low,
        clips_high=clips_high,
        better=float((values > 0).mean()),
    )


def mean_interval(values: Floats) -> tuple[float, float]:
    """Interval of the mean of values (n,); NaN where they are too few, the value itself where all are equal."""
    if len(values) < FEWEST:
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

    one, other = pairs[:, 0], pairs[:, 1]
    return float(cut(one, other)), *_ratio_interval(one, other, cut)


def _ratio_interval(one: Floats, other: Floats, ratio: Callable[..., Floats]) -> tuple[float, float]:
    """Interval of a statistic of two paired columns (n,), by percentiles; NaN where the pairs are too few."""
    if len(one) < FEWEST:
        return float("nan"), float("nan")
    draws = np.random.default_rng(SEED)
    found = bootstrap(
        (one, other),
        ratio,
        paired=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        rng=draws,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def gap_closed(
    table: pd.DataFrame, policy: str, floor: str = "trackb2b", ceiling: str = "oracle"
) -> tuple[float, float, float]:
    """Share of the mean gap between two policies that a third closes, with its interval; NaN where there is no gap."""
    gained, gap = ((table[column] - table[floor]).to_numpy(np.float64) for column in (policy, ceiling))
    if gap.mean() <= 0:
        return float("nan"), float("nan"), float("nan")

    def closed(one: Floats, other: Floats, axis: int = -1) -> Floats:
        return np.mean(one, axis=axis) / np.mean(other, axis=axis)

    return float(closed(gained, gap)), *_ratio_interval(gained, gap, closed)
