"""Frontier, knee and urgency by hand-computed values, and the frontier's definition as a property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.errors import UserError
from vitmalis.policy.optimizer import Urgency, choose, knee_point, pareto_frontier


def arrays(*pairs: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    latency_s, f1 = np.array(pairs, float).T
    return latency_s, f1


def test_frontier_keeps_what_nothing_dominates_in_the_order_of_latency() -> None:
    points = arrays((0.5, 0.9), (0.3, 0.7), (0.4, 0.6), (0.2, 0.5), (0.6, 0.9))
    assert pareto_frontier(*points).tolist() == [3, 1, 0]


def test_of_equals_the_first_stays_and_of_equal_latency_the_better() -> None:
    assert pareto_frontier(*arrays((0.3, 0.7), (0.3, 0.7), (0.3, 0.6))).tolist() == [0]
    assert pareto_frontier(*arrays((0.3, 0.6), (0.3, 0.7))).tolist() == [1]
    assert pareto_frontier(*arrays((0.4, 0.7), (0.3, 0.7))).tolist() == [1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_frontier_is_what_its_definition_says(pairs: list[tuple[int, int]]) -> None:
    latency_s, f1 = arrays(*pairs)
    frontier = pareto_frontier(latency_s, f1)

    def dominated(i: int) -> bool:
        no_worse = (latency_s <= latency_s[i]) & (f1 >= f1[i])
        return bool((no_worse & ((latency_s < latency_s[i]) | (f1 > f1[i]))).any())

    best = {pairs[i] for i in range(len(pairs)) if not dominated(i)}
    assert {pairs[i] for i in frontier} == best
    assert len(frontier) == len(best)
    assert (np.diff(latency_s[frontier]) > 0).all()
    assert (np.diff(f1[frontier]) > 0).all()


BENT = arrays((0.1, 0.2), (0.2, 0.7), (0.3, 0.75), (0.6, 0.8))
"""Losses (slowness, inaccuracy): (0, 1), (0.2, 1/6), (0.4, 1/12), (1, 0); the second has the least sum."""


@pytest.mark.parametrize("method", ["tradeoff", "chord"])
def test_one_bend_is_found_by_both_methods(method: str) -> None:
    assert knee_point(*BENT, method) == 1  # type: ignore[arg-type]


def test_methods_differ_where_a_small_bend_lies_inside_a_hollow_frontier() -> None:
    # Sums of losses: 1 at the ends, 1.1 at the fifth point, more at all others.
    losses = (
        (0.0, 1.0),
        (0.16, 0.97),
        (0.3, 0.9),
        (0.4, 0.8),
        (0.5, 0.6),
        (0.65, 0.55),
        (0.8, 0.5),
        (0.9, 0.4),
        (1, 0),
    )
    hollow = arrays(*((slowness, 1 - inaccuracy) for slowness, inaccuracy in losses))
    assert knee_point(*hollow, "chord") == 0
    assert knee_point(*hollow, "tradeoff") == 4


def test_two_points_are_both_ends_and_the_faster_is_taken() -> None:
    assert knee_point(*arrays((0.1, 0.5), (0.4, 0.9))) == 0


def test_knee_does_not_depend_on_units() -> None:
    latency_s, f1 = BENT
    for method in ("tradeoff", "chord"):
        assert knee_point(latency_s * 1e3 + 7, f1 * 0.01, method) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["tradeoff", "chord"])
def test_a_frontier_of_nearly_equal_f1_is_not_stretched(method: str) -> None:
    latency_s, f1 = arrays((0.2, 0.90), (0.5, 0.94), (0.8, 0.95))
    assert knee_point(latency_s, f1, method) == 1  # type: ignore[arg-type]
    # As parts of 0.1, 0.05 and 0.01 are lost F1 of 0.5 and 0.1: sums of 0.5, 0.6 and 1.
    assert knee_point(latency_s, f1, method, least_f1_span=0.1) == 0  # type: ignore[arg-type]
    assert knee_point(latency_s, f1, method, least_f1_span=0.05) == 1  # type: ignore[arg-type]


def test_unknown_knee_method_is_a_clear_error() -> None:
    with pytest.raises(UserError, match=r"policy.knee=elbow: choose one of tradeoff, chord"):
        knee_point(*BENT, "elbow")  # type: ignore[arg-type]


def test_choice_follows_algorithm_1() -> None:
    calm, hurried = choose(*BENT), choose(*BENT, urgent="stale")
    assert (calm.chosen, calm.reason) == (1, "knee")
    assert (hurried.chosen, hurried.reason, hurried.knee) == (0, "stale", 1)
    single = choose(*arrays((0.2, 0.9), (0.3, 0.8)), urgent="retention")
    assert (single.chosen, single.reason, single.frontier.tolist()) == (0, "only", [0])


def test_a_gain_within_the_tie_is_worth_no_latency() -> None:
    ties = np.array([0.0, 0.06, 0.06, 0.06])
    assert choose(*BENT, f1_ties=ties).frontier.tolist() == [0, 1, 3]  # 0.75 gains 0.05 over 0.7, and 0.8 gains 0.1
    unsure_of_the_fastest = np.array([0.7, 0.0, 0.0, 0.0])
    assert choose(*BENT, f1_ties=unsure_of_the_fastest).reason == "only", "the larger of both ties counts"
    assert choose(*BENT, f1_ties=np.full(4, 0.7)).reason == "only"
    assert choose(*BENT, f1_ties=np.zeros(4)).frontier.tolist() == [0, 1, 2, 3]


def test_urgency_is_strictly_beyond_the_thresholds_and_a_matter_of_time() -> None:
    urgency = Urgency()
    assert urgency.of(30 * (1 / 30), 1.0) is None
    assert urgency.of(31 / 30, 1.0) == "stale"
    assert urgency.of(11 / 10, 1.0) == "stale"  # eleven intervals of a clip at 10 FPS
    assert urgency.of(0.1, 0.7) is None
    assert urgency.of(0.1, 0.69) == "retention"


@pytest.mark.parametrize(("staleness_s", "retention"), [(0.0, 0.7), (1.0, 1.2), (1.0, -0.1)])
def test_thresholds_that_cannot_be_are_refused(staleness_s: float, retention: float) -> None:
    with pytest.raises(UserError, match="policy\\."):
        Urgency(staleness_s, retention)
