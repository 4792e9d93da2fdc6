"""Statistics of a study, as pure functions: complete pairs, paired differences and their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from vitmalis_jobs.evaluation.study.labels import counted

CONFIDENCE = 0.95
RESAMPLES = 5000
MIN_SAMPLES = 5
"""Pairs or clips that an interval needs: resampling fewer says nothing about others."""
SEED = 1906

Floats = NDArray[np.float64]


def by_pair(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row for each pair of clip and trace for which every policy has the metric, one column for each policy."""
    if metric not in runs:  # no run has it, as inference F1 where no result came back
        return pd.DataFrame(columns=runs["policy"].unique(), dtype=float)
    table = runs.pivot_table(index=["clip", "trace"], columns="policy", values=metric, aggfunc="last")
    return table.reindex(columns=sorted(runs["policy"].unique())).dropna()


def results_by_pair(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`by_pair` of a metric that results have: a policy without any is NaN, and takes no pair from the others."""
    policies = sorted(runs["policy"].unique())
    if metric not in runs:
        return pd.DataFrame(columns=policies, dtype=float)
    answered = runs.loc[runs[metric].notna(), "policy"].unique()
    return by_pair(runs[runs["policy"].isin(answered)], metric).reindex(columns=policies)


def incomplete_pairs(runs: pd.DataFrame) -> int:
    """Number of pairs of clip and trace that at least one policy lacks, and that comparisons leave out."""
    table = runs.pivot_table(index=["clip", "trace"], columns="policy", values="frames", aggfunc="last")
    return int(table.isna().any(axis=1).sum())


def undefined_pairs(runs: pd.DataFrame) -> int:
    """Number of pairs that a policy has played without a rendering F1, as their clips show nothing to be found."""
    undefined = runs[runs["rendering_f1"].isna()] if "rendering_f1" in runs else runs
    return len(undefined[["clip", "trace"]].drop_duplicates())


def frames_of_pairs(runs: pd.DataFrame, pairs: pd.Index) -> pd.Series:
    """Number of frames of each pair of clip and trace, by the index of `by_pair`."""
    return runs.groupby(["clip", "trace"])["frames"].max().reindex(pairs)


def mean_by_frames(values: pd.Series, frames: pd.Series) -> float:
    """Mean over pairs, each weighted by its frames, so that a clip of 0.5 s counts less than one of 20 s."""
    return float(np.average(values, weights=frames)) if len(values) else float("nan")


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference between a policy and a baseline.

    Attributes:
        policy, baseline: the policies that are compared.
        pairs: number of pairs of clip and trace.
        mean: mean of policy less baseline.
        low, high: 95 % interval of the mean (bootstrap over pairs, BCa); NaN with too few pairs.
        clips: number of clips among the pairs.
        clips_low, clips_high: the same interval by bootstrap over the clips' means. Pairs of one clip share its frames,
            so they are not independent samples of what other clips would show. NaN with too few clips.
        higher: share of pairs in which the policy is higher.
    """

    policy: str
    baseline: str
    pairs: int
    mean: float
    low: float
    high: float
    clips: int
    clips_low: float
    clips_high: float
    higher: float

    @property
    def significant(self) -> bool:
        """Whether the interval over pairs excludes 0."""
        return _excludes_zero(self.low, self.high)

    @property
    def verdict(self) -> str:
        """What the intervals allow to conclude, as a phrase."""
        if np.isnan(self.low):
            return f"too few for an interval: {counted(self.pairs, 'pair')}"
        if not self.significant:
            return "not significant: the interval holds 0"
        found = "higher" if self.mean > 0 else "lower"
        if np.isnan(self.clips_low) or _excludes_zero(self.clips_low, self.clips_high):
            return found
        return f"{found} on these clips; over clips the interval holds 0"


def _excludes_zero(low: float, high: float) -> bool:
    return bool(low > 0 or high < 0)


def difference(table: pd.DataFrame, policy: str, baseline: str) -> Difference:
    """Compare two columns of `by_pair`."""
    differences = table[policy] - table[baseline]
    values = differences.to_numpy(np.float64)
    low, high = mean_interval(values)
    of_clips = differences.groupby(level="clip").mean().to_numpy(np.float64)
    clips_low, clips_high = mean_interval(of_clips)
    return Difference(
        policy=policy,
        baseline=baseline,
        pairs=len(values),
        mean=float(values.mean()),
        low=low,
        high=high,
        clips=len(of_clips),
        clips_low=clips_low,
        clips_high=clips_high,
        higher=float((values > 0).mean()),
    )


def mean_interval(values: Floats) -> tuple[float, float]:
    """Bootstrap interval of the mean of values (n,); NaN if they are too few, the value itself if all are equal."""
    if len(values) < MIN_SAMPLES:
        return float("nan"), float("nan")
    if np.ptp(values) < 1e-12:
        return float(values[0]), float(values[0])
    draws = np.random.default_rng(SEED)
    found = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=draws)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def median_reduction(table: pd.DataFrame, policy: str, baseline: str) -> tuple[float, float, float]:
    """Reduction of a policy's median over pairs relative to the baseline's, per cent, and its interval.

    NaN without pairs, and where the baseline's median is 0, as a network time is without a link.
    """
    pairs = table[[policy, baseline]].to_numpy(np.float64)
    if not len(pairs) or not np.median(pairs[:, 1]):
        return float("nan"), float("nan"), float("nan")

    def reduction(one: Floats, other: Floats, axis: int = -1) -> Floats:
        return 100 * (1 - np.median(one, axis=axis) / np.median(other, axis=axis))

    one, other = pairs[:, 0], pairs[:, 1]
    return float(reduction(one, other)), *_ratio_interval(one, other, reduction)


def _ratio_interval(one: Floats, other: Floats, ratio: Callable[..., Floats]) -> tuple[float, float]:
    """Bootstrap interval (percentiles) of a statistic of two paired columns (n,); NaN if the pairs are too few."""
    if len(one) < MIN_SAMPLES:
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


def gap_closed(table: pd.DataFrame, policy: str, floor: str, ceiling: str) -> tuple[float, float, float]:
    """Share of the mean gap between `floor` and `ceiling` that a policy closes, and its interval; NaN without a gap."""
    gained, gap = ((table[column] - table[floor]).to_numpy(np.float64) for column in (policy, ceiling))
    if gap.mean() <= 0:
        return float("nan"), float("nan"), float("nan")

    def closed(one: Floats, other: Floats, axis: int = -1) -> Floats:
        return np.mean(one, axis=axis) / np.mean(other, axis=axis)

    return float(closed(gained, gap)), *_ratio_interval(gained, gap, closed)
