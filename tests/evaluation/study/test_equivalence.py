"""Two one-sided tests, against intervals by hand and the sample sizes of the textbook."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vitmalis_jobs.evaluation.study.equivalence import equivalence, samples_needed, table


def spread(mean: float, deviation: float, samples: int = 10) -> np.ndarray:
    """Samples of exactly this mean and standard deviation."""
    values = np.tile([-1.0, 1.0], samples // 2)
    return mean + values * deviation / values.std(ddof=1)


def test_the_interval_is_students() -> None:
    found = equivalence(spread(0.004, 0.006))
    half = 1.8331 * 0.006 / math.sqrt(10)  # t of 0.95 with 9 degrees of freedom
    assert (found.low, found.high) == pytest.approx((0.004 - half, 0.004 + half), abs=1e-6)
    paired = stats.ttest_1samp(spread(0.004, 0.006), 0.01, alternative="less")
    assert found.equivalent == (paired.pvalue < 0.05)


@pytest.mark.parametrize(
    ("mean", "deviation", "verdict"),
    [
        (0.000, 0.006, "equivalent within 0.01"),
        (0.030, 0.010, "differs"),
        (0.004, 0.004, "differs, by less than 0.01"),
        (0.012, 0.030, "undecided: 50 pairs would be needed"),  # (2.8016 * 0.03 / 0.012)^2 = 49.05
        (0.002, 0.030, "undecided: 87 pairs would be needed"),  # (2.4865 * 0.03 / 0.008)^2 = 86.9
    ],
)
def test_a_difference_is_shown_or_excluded_or_neither(mean: float, deviation: float, verdict: str) -> None:
    assert equivalence(spread(mean, deviation)).verdict("pair") == verdict


def test_without_any_difference_both_tests_have_to_reject() -> None:
    assert samples_needed(0.0, 0.03) == math.ceil((2.9264 * 3) ** 2)


def test_equal_policies_are_equivalent_and_few_pairs_show_nothing() -> None:
    assert equivalence(np.zeros(6)).verdict("pair") == "equivalent within 0.01"
    assert equivalence(np.full(6, 0.02)).verdict("pair") == "differs"
    assert equivalence(np.zeros(4)).verdict("clip") == "too few clips: 4"


def test_the_table_tests_pairs_and_clips() -> None:
    rows = [
        {"policy": policy, "clip": f"c{clip}", "trace": f"t{trace}", "rendering_f1": f1 + 0.002 * (-1) ** clip * trace}
        for policy, f1 in (("vitmalis", 0.500), ("wo_mlps", 0.501), ("other", 0.7))
        for clip in range(4)
        for trace in range(3)
    ]
    found = table(pd.DataFrame(rows), [("vitmalis", "wo_mlps")]).iloc[0]
    assert found["mean difference"] == pytest.approx(-0.001)
    assert found["over pairs"] == "differs, by less than 0.01", "every pair differs by the same"
    assert found["over clips"] == "too few clips: 4"
