from __future__ import annotations

import pytest

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.network import NetworkEstimate
from vitmalis.types import Configuration


def outcome(payload_bytes: int, transfer_s: float, rtt_s: float) -> OffloadOutcome:
    decision = OffloadDecision(Configuration())
    return OffloadOutcome(0, decision, payload_bytes, 0.01, 0.01, 0.3, transfer_s, rtt_s, 1.0)


def test_priors_until_the_first_result() -> None:
    estimate = NetworkEstimate(8.0, 30.0)
    assert (estimate.uplink_mbps, estimate.rtt_s) == (8.0, 0.03)


def test_mean_of_the_last_two_by_bytes() -> None:
    estimate = NetworkEstimate(8.0, 30.0)
    estimate.observe(outcome(1_000_000, 1.0, 0.1))  # 8 Mbps, forgotten below
    assert estimate.uplink_mbps == pytest.approx(8.0)
    estimate.observe(outcome(100_000, 0.2, 0.04))  # 4 Mbps
    estimate.observe(outcome(25_000, 0.3, 0.02))
    assert estimate.uplink_mbps == pytest.approx(125_000 * 8e-6 / 0.5)
    assert estimate.rtt_s == pytest.approx(0.03)


def test_a_payload_that_arrives_with_its_announcement_says_nothing_where_another_has_been_timed() -> None:
    instant = outcome(100_000, 0.0, 0.0)
    assert instant.uplink_mbps == pytest.approx(800.0), "100 kB in a millisecond"
    estimate = NetworkEstimate(8.0, 30.0)
    estimate.observe(outcome(100_000, 0.1, 0.04))
    estimate.observe(instant)
    assert estimate.uplink_mbps == pytest.approx(8.0)
    estimate.observe(instant)
    assert estimate.uplink_mbps == pytest.approx(800.0), "no link that slow does so twice"


@pytest.mark.parametrize("arguments", [(0.0, 30.0), (8.0, -1.0), (8.0, 30.0, 0)])
def test_priors_that_cannot_be_are_refused(arguments: tuple) -> None:
    with pytest.raises(UserError, match=r"policy\.\w+="):
        NetworkEstimate(*arguments)
