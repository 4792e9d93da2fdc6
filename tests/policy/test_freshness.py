"""Freshness on synthetic tables and estimators: the highest expected rendering F1, computed here in closed form."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from test_vitmalis import outcome, state

from vitmalis.explanation import DecisionExplanation
from vitmalis.policy import Policy, build_policy

ONE_NAT_A_SECOND = {"decay_ages_s": [0, 1], "decay_f1": [1.0, exp(-1)]}


def explained(policy: Policy, **changes: object) -> DecisionExplanation:
    explanation = policy.decide(state(**changes)).explanation
    assert explanation is not None
    assert explanation.reason == "freshness"
    return explanation


@pytest.mark.parametrize("in_flight", [1, 2])
def test_takes_the_highest_f1_over_the_ages_at_which_the_result_is_shown(
    vitmalis_options: dict, in_flight: int
) -> None:
    e = explained(build_policy("freshness", **ONE_NAT_A_SECOND, **vitmalis_options), offloads_in_flight=in_flight)
    first_s, last_s = e.e2e_latency_s, e.e2e_latency_s * (1 + 1 / in_flight)
    rendered = e.f1 * (np.exp(-first_s) - np.exp(-last_s)) / (last_s - first_s)
    assert e.chosen == int(np.argmax(rendered))


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
