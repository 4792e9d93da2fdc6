"""The bandit in a world whose best arm is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_vitmalis import GRID, outcome, state

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy import Policy, build_policy
from vitmalis.regions import Motion
from vitmalis.types import Configuration, Detections

ARMS = [[0, 80, 0], [2, 75, 4], [1, 90, 2]]
FAST = Configuration(2, 75, 4)


def play(policy: Policy, frame_index: int, agreement: float | None) -> OffloadDecision:
    """One offload whose result says how well the boxes of the one before agree with it."""
    decision = policy.decide(state(frame_index=frame_index))
    seen = replace(outcome(4.0), frame_index=frame_index, decision=decision)
    if agreement is not None:
        seen = replace(seen, agreement=agreement, agreement_age_s=0.3, agreement_frame_index=frame_index - 10)
    policy.observe(seen)
    return decision


def test_tries_every_arm_in_order_then_stays_with_the_best() -> None:
    policy = build_policy("bandit", arms=ARMS, exploration=0.1)
    before, decisions = None, []
    for number in range(30):
        agreement = None if before is None else 0.9 if before == FAST else 0.2
        decisions.append(play(policy, 10 * number, agreement))
        before = decisions[-1].configuration
    configurations = [decision.configuration for decision in decisions]
    assert configurations[:3] == [Configuration(0, 80, 0), FAST, Configuration(1, 90, 2)]
    assert set(configurations[-10:]) == {FAST}
    reasons = [decision.explanation.reason for decision in decisions if decision.explanation]
    assert reasons[:3] == ["explore"] * 3
    assert set(reasons[-10:]) == {"exploit"}


def test_the_reward_belongs_to_the_offload_before() -> None:
    policy = build_policy("bandit", arms=ARMS[:2], exploration=0.0)
    play(policy, 0, None)
    play(policy, 10, 1.0)  # the boxes of the first arm agree with the result of the second
    last = play(policy, 20, 0.0)
    assert last.configuration == Configuration(0, 80, 0)
    assert last.explanation is not None
    assert last.explanation.f1[0] > last.explanation.f1[1] == 0


def test_explains_costs_by_means_of_the_arm() -> None:
    policy = build_policy("bandit", arms=ARMS[:2])
    play(policy, 0, None)
    explanation = play(policy, 10, 0.5).explanation
    assert explanation is not None
    assert explanation.payload_bytes.tolist() == [100_000, 0]
    assert explanation.e2e_latency_s.tolist() == [0.6, 0]


def test_arms_that_make_no_difference_in_a_frame_are_left_out() -> None:
    everywhere = Motion(np.full(GRID.shape, 1 / 24, np.float32), 0.5)
    covering = Detections.of([[0, 0, 960, 540]], [0.9], [2])
    decision = build_policy("bandit", arms=ARMS).decide(state(motion=everywhere, tracked=covering))
    assert decision.configuration == Configuration(0, 80, 0)
    assert decision.explanation is not None
    assert decision.explanation.tau_d.tolist() == [0]


@pytest.mark.parametrize(
    "options",
    [
        {"arms": [[0, 75, 0]]},
        {"arms": [[0, 75, 0], [0, 75, 0]]},
        {"arms": [[2, 75, 4], [1, 75, 4]]},
        {"arms": [[0, 75, 0], [3, 75, 4]]},
        {"arms": [[0, 75, 0], [2, 75]]},
        {"exploration": -1},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=r"policy\.\w+="):
        build_policy("bandit", **options)
