"""F1 by age: the offline curve, its mean over an interval and what is learned from a scene, by hand-computed values."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.estimation import F1ByAge

E = exp(-1)


def test_the_decay_is_linear_between_the_points_and_beyond_them() -> None:
    curve = F1ByAge([0, 1, 3], [1.0, E, E**2])  # one nat in the first second, half a nat in each later one
    assert curve.at([0, 0.5, 1, 2, 3, 5]) == pytest.approx([1, exp(-0.5), E, exp(-1.5), exp(-2), exp(-3)])


def test_the_mean_over_ages_is_that_of_the_curve() -> None:
    curve = F1ByAge([0, 1], [1.0, E])
    means = curve.mean(np.array([0.0, 0.2]), np.array([1.0, 0.4]))
    assert means == pytest.approx([1 - E, (exp(-0.2) - exp(-0.4)) / 0.2], rel=1e-3)


def test_the_rate_is_learned_from_agreements_next_to_a_prior() -> None:
    curve = F1ByAge([0, 1], [1.0, E])
    curve.observe(exp(-2), age_s=1.0)  # twice the decay that is expected, next to a prior of one nat
    assert curve.rate == pytest.approx((1 + 2) / (1 + 1))
    curve.observe(1.0, age_s=1.0)  # no decay; the first observation counts 0.9 of this one
    assert curve.rate == pytest.approx((1 + 0.9 * 2 + 0) / (1 + 0.9 * 1 + 1))
    assert curve.at(1.0) == pytest.approx(exp(-curve.rate))


def test_errors_of_the_results_are_no_decay() -> None:
    curve = F1ByAge([0, 1], [1.0, E])
    curve.observe(0.5, age_s=1.0, expected=0.5)
    assert curve.rate == pytest.approx(1 / 2)


def test_the_rate_has_limits() -> None:
    hopeless, still = F1ByAge([0, 1], [1.0, 0.9]), F1ByAge([0, 1], [1.0, E])
    for _ in range(100):
        hopeless.observe(0.0, age_s=1.0)
        still.observe(1.0, age_s=9.0)
    assert (hopeless.rate, still.rate) == (4.0, 0.25)


@pytest.mark.parametrize(
    ("ages_s", "f1"),
    [
        ([0], [1.0]),
        ([0.1, 1], [1.0, 0.5]),
        ([0, 1, 1], [1.0, 0.5, 0.4]),
        ([0, 1], [1.0, 0.0]),
        ([0, 1], [0.5, 0.6]),
        ([0, 1], [1.1, 0.6]),
        ([0, 1], [1.0]),
    ],
)
def test_what_is_no_curve_is_refused(ages_s: list, f1: list) -> None:
    with pytest.raises(UserError, match=r"policy.decay_ages_s=.* and policy.decay_f1="):
        F1ByAge(ages_s, f1)
