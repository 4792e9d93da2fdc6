"""Whether two policies differ or are equivalent: two one-sided tests (TOST) of paired differences of rendering F1.

That a difference is not significant does not show that there is none. Equivalence is shown where the 90 % interval of
the mean difference lies inside a bound, at the level of 5 % (Schuirmann 1987). Where neither a difference nor
equivalence is shown, the number of samples says how much larger a study has to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vitmalis_jobs.evaluation.study.statistics import MIN_SAMPLES, by_pair
from vitmalis_jobs.evaluation.study.tables import marked

BOUND = 0.01
"""Largest mean difference of F1 that does not matter."""
LEVEL, POWER = 0.05, 0.8

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The test of a mean of paired differences, by Student's t.

    Attributes:
        samples: number of differences.
        mean: of the differences.
        low, high: 90 % interval of the mean, which TOST compares with the bound; NaN with too few samples.
        differs: whether the mean differs from 0 (two-sided test).
        equivalent: whether it is shown to be within the bound.
        needed: samples that would decide with a power of 80 %, at this mean and spread; 0 if it is decided, or too few
            to say.
    """

    samples: int
    mean: float
    low: float
    high: float
    differs: bool
    equivalent: bool
    needed: int

    def verdict(self, noun: str) -> str:
        """What the test allows to conclude, as a phrase; `noun` is what a sample is."""
        if math.isnan(self.low):
            return f"too few {noun}s: {self.samples}"
        if self.differs:
            return f"differs, by less than {BOUND:g}" if self.equivalent else "differs"
        if self.equivalent:
            return f"equivalent within {BOUND:g}"
        return f"undecided: {self.needed} {noun}s would be needed"


def equivalence(differences: Floats) -> Equivalence:
    """Test whether the mean of paired differences (n,) differs from 0, and whether it is within the bound."""
    samples, mean = len(differences), float(differences.mean())
    if samples < MIN_SAMPLES:
        return Equivalence(samples, mean, float("nan"), float("nan"), False, False, 0)
    spread = float(differences.std(ddof=1))
    error = spread / math.sqrt(samples)
    half = float(stats.t.ppf(1 - LEVEL, samples - 1)) * error
    differs = abs(mean) > max(float(stats.t.ppf(1 - LEVEL / 2, samples - 1)) * error, 1e-12)
    equivalent = abs(mean) + half < BOUND
    needed = 0 if differs or equivalent else max(samples_needed(mean, spread), samples + 1)
    return Equivalence(samples, mean, mean - half, mean + half, differs, equivalent, needed)


def samples_needed(mean: float, spread: float) -> int:
    """Samples that show a difference or equivalence, whichever takes fewer, if mean and deviation are the true ones.

    By the normal approximation, for a test at the level of 5 % with a power of 80 %.
    """
    of_difference = stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER), abs(mean)
    # Both one-sided tests have to reject; with a mean of 0 each may fail in half of the cases allowed.
    beta = (1 - POWER) / 2 if mean == 0 else 1 - POWER
    of_equivalence = stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(1 - beta), BOUND - abs(mean)
    found = [(deviations * spread / gap) ** 2 for deviations, gap in (of_difference, of_equivalence) if gap > 0]
    return math.ceil(min(found))


def table(runs: pd.DataFrame, compared: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """One row for each (policy, baseline): the test over pairs of clip and trace, and over the means of clips."""
    names, rows = marked(runs, list(runs["policy"].unique())), []
    for policy, baseline in compared:
        f1 = by_pair(runs[runs["policy"].isin((policy, baseline))], "rendering_f1")
        if f1.empty:
            continue
        gained = f1[policy] - f1[baseline]
        pairs = equivalence(gained.to_numpy(np.float64))
        clips = equivalence(gained.groupby(level="clip").mean().to_numpy(np.float64))
        rows.append(
            {
                "policy": names[policy],
                "compared with": names[baseline],
                "mean difference": pairs.mean,
                "90 % from": pairs.low,
                "90 % to": pairs.high,
                "over pairs": pairs.verdict("pair"),
                "90 % from, over clips": clips.low,
                "90 % to, over clips": clips.high,
                "over clips": clips.verdict("clip"),
            }
        )
    return pd.DataFrame(rows)
