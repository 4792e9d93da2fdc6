"""Freshness on synthetic tables and estimators: the highest expected rendering F1, computed here in closed form."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_vitmalis import outcome, state

from tests.policy.small_world import write_estimators
from vitmalis.estimation import ConfigurationTable, load_estimator, save_estimator
from vitmalis.explanation import DecisionExplanation
from vitmalis.policy import Policy, build_policy

ONE_NAT_A_SECOND = {"decay_ages_s": [0, 1], "decay_f1": [1.0, exp(-1)]}


def explained(policy: Policy, **changes: object) -> DecisionExplanation:
    explanation = policy.decide(state(**changes)).explanation
    assert explanation is not None
    assert explanation.reason == "freshness"
    return explanation


def decayed(first_s: np.ndarray, last_s: np.ndarray) -> np.ndarray:
    """F1 of boxes that lose one nat a second, summed over their ages (n,)."""
    return np.exp(-first_s) - np.exp(-last_s)


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("age_frames", [0, 9, 60])
def test_weighs_the_boxes_shown_meanwhile_and_those_of_the_result_against_the_best_in_the_long_run(
    vitmalis_options: dict, in_flight: int, age_frames: int
) -> None:
    policy = build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options)
    e = explained(policy, offloads_in_flight=in_flight, result_age_frames=age_frames, retention=1.0)
    latency_s, interval_s, age_s = e.e2e_latency_s, e.e2e_latency_s / in_flight, age_frames / 30
    in_the_long_run = e.f1 * decayed(latency_s, latency_s + interval_s) / interval_s
    steady = int(np.argmax(in_the_long_run))
    worth = (
        decayed(age_s, age_s + interval_s)  # the first result is expected to be right
        + e.f1 * decayed(latency_s, latency_s + interval_s[steady])
        - in_the_long_run[steady] * interval_s
    )
    assert e.chosen == int(np.argmax(worth))


def test_from_the_boxes_that_it_shows_in_the_long_run_it_chooses_what_is_best_in_the_long_run(
    vitmalis_options: dict,
) -> None:
    policy, age_ms = build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options), 0
    for _ in range(3):  # each offload is decided as the result of the one before comes
        e = explained(policy, frame_interval_s=1e-3, result_age_frames=age_ms, retention=1.0)
        age_ms = round(1e3 * e.e2e_latency_s[e.chosen])
    in_the_long_run = e.f1 * decayed(e.e2e_latency_s, 2 * e.e2e_latency_s) / e.e2e_latency_s
    assert e.chosen == int(np.argmax(in_the_long_run))


def test_boxes_that_are_worth_nothing_any_more_are_like_none(vitmalis_options: dict) -> None:
    policy = build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options)
    forgotten = explained(policy, result_age_frames=10**6)  # after an outage of nine hours F1-by-age is 0
    assert forgotten.chosen == explained(policy, retention=0.0).chosen


@pytest.mark.parametrize("error_low", [0.0, 1.0])
def test_a_faster_candidate_is_taken_within_the_error_of_its_difference_to_the_best(
    vitmalis_options: dict, tmp_path: Path, error_low: float
) -> None:
    accuracy = load_estimator(Path(vitmalis_options["estimators"]) / "accuracy_mlp.json")
    errors = ConfigurationTable(("tau_d",), np.array([[0], [1], [2]]), np.array([0.0, error_low, error_low]))
    write_estimators(tmp_path)
    save_estimator(msgspec.structs.replace(accuracy, errors=errors), tmp_path / "accuracy_mlp.json")
    lasting = {"decay_ages_s": [0, 1], "decay_f1": [1.0, 0.999]}  # accuracy counts, so that full resolution is best
    e = explained(build_policy("freshness", **lasting, **vitmalis_options | {"estimators": str(tmp_path)}))
    assert e.tau_d[e.f1.argmax()] == 0
    if error_low:  # no low resolution is known to be worse, though the error of the best itself is 0
        assert e.e2e_latency_s[e.chosen] == e.e2e_latency_s[e.tau_d > 0].min()
    else:
        assert e.tau_d[e.chosen] == 0


def test_waiting_costs_most_while_there_are_no_boxes_or_bad_ones(vitmalis_options: dict) -> None:
    def latency_s(**changes: object) -> float:
        e = explained(build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options), **changes)
        return float(e.e2e_latency_s[e.chosen])

    new, half_lost, old = latency_s(), latency_s(retention=0.5), latency_s(result_age_frames=60)
    assert new > half_lost > old
    whole = build_policy("freshness", first_frame="full", **ONE_NAT_A_SECOND, **vitmalis_options)
    first = explained(whole, results=0)
    assert first.e2e_latency_s[first.chosen] == first.e2e_latency_s.min()


@pytest.mark.parametrize("loss", [0.05, 0.6])
def test_the_first_frame_is_low_throughout_where_sooner_boxes_are_worth_what_they_miss(
    vitmalis_options: dict, loss: float
) -> None:
    low = {"first_frame_f1_loss": [loss] * 5}
    e = explained(build_policy("freshness", **low, **ONE_NAT_A_SECOND, **vitmalis_options), results=0)
    latency_s = e.e2e_latency_s
    in_the_long_run = e.f1 * decayed(latency_s, 2 * latency_s) / latency_s
    steady = int(np.argmax(in_the_long_run))
    worth = e.f1 * decayed(latency_s, latency_s + latency_s[steady]) - in_the_long_run[steady] * latency_s
    assert e.chosen == int(np.argmax(worth))
    assert e.tau_d[e.chosen] == (2 if loss < 0.5 else 0)


def test_nothing_but_accuracy_counts_where_boxes_stay_right_and_latency_where_they_do_not(
    vitmalis_options: dict,
) -> None:
    still = explained(build_policy("freshness", decay_ages_s=[0, 1], decay_f1=[1, 1], **vitmalis_options))
    assert still.f1[still.chosen] == still.f1.max()
    assert still.e2e_latency_s[still.chosen] == still.e2e_latency_s[still.f1 == still.f1.max()].min()
    wild = explained(build_policy("freshness", decay_ages_s=[0, 1], decay_f1=[1, 1e-200], **vitmalis_options))
    assert wild.e2e_latency_s[wild.chosen] == wild.e2e_latency_s.min()


def test_learns_from_the_scene_how_much_latency_costs(vitmalis_options: dict) -> None:
    chosen_s = []
    for agreement in (1.0, 0.3):
        policy = build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options)
        for _ in range(20):
            decision = policy.decide(state())
            seen = replace(outcome(4.0), decision=decision, agreement=agreement, agreement_age_s=0.3)
            policy.observe(seen)
        e = explained(policy)
        chosen_s.append(e.e2e_latency_s[e.chosen])
    assert chosen_s[1] < chosen_s[0], "boxes that are soon wrong are replaced sooner"


def test_waiting_at_the_server_is_part_of_the_latency(vitmalis_options: dict) -> None:
    latencies = []
    for queue_s in (0.0, 0.25):
        policy = build_policy("freshness", **vitmalis_options)
        policy.observe(replace(outcome(4.0), decision=policy.decide(state()), queue_s=queue_s))
        latencies.append(explained(policy).e2e_latency_s)
    assert latencies[1] - latencies[0] == pytest.approx(0.25)
