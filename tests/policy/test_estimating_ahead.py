"""Decisions from estimates that were made ahead, of an earlier frame, on synthetic tables and estimators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_vitmalis import CMR, DOR, GRID, outcome, state

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.regions import Motion, RegionGrid


@pytest.fixture(params=["vitmalis", "freshness"])
def policy(request: pytest.FixtureRequest, vitmalis_options: dict) -> Policy:
    return build_policy(request.param, estimate_ahead=True, **vitmalis_options)


def moving(*regions: tuple[int, int], **changes: Any) -> ClientState:
    """A state in which these regions share the frame's motion; the first region has an object in it."""
    motion = np.zeros(GRID.shape, np.float32)
    for region in regions:
        motion[region] = 1 / len(regions)
    return state(motion=Motion(motion, 0.1), **changes)


def decided(policy: Policy, seen: ClientState) -> OffloadDecision:
    decision = policy.decide(seen)
    assert decision is not None
    assert decision.explanation is not None
    return decision


def test_from_the_same_content_it_decides_the_same(policy: Policy) -> None:
    own = decided(policy, state())
    ahead = decided(policy, replace(state(), ahead=policy.estimate_ahead(state(frame_index=3))))
    assert (own.estimates_age_frames, ahead.estimates_age_frames) == (None, 6)
    assert own.configuration == ahead.configuration
    for name in ("tau_d", "quality", "restoration_point", "payload_bytes", "e2e_latency_s", "f1"):
        np.testing.assert_array_equal(getattr(own.explanation, name), getattr(ahead.explanation, name))


def test_size_and_f1_are_of_the_earlier_frame_and_all_else_of_this_one(policy: Policy) -> None:
    earlier, now = moving(DOR, CMR, frame_index=3), moving(DOR, CMR, (0, 3), (1, 3))
    estimates = policy.estimate_ahead(earlier)
    before, fresh = decided(policy, earlier).explanation, decided(policy, now).explanation
    policy.observe(outcome(uplink_mbps=4.0))  # after the estimates were made
    ahead = decided(policy, replace(now, ahead=estimates))
    known = ahead.explanation
    np.testing.assert_array_equal(known.payload_bytes, before.payload_bytes)
    np.testing.assert_array_equal(known.f1, before.f1)
    assert not np.array_equal(fresh.f1, before.f1)
    np.testing.assert_array_equal(known.region_types, fresh.region_types)
    at = int(np.flatnonzero((known.tau_d == 1) & (known.quality == 100) & (known.restoration_point == 2))[0])
    encode_s, inference_s = 0.004 + 100 * 4e-5 - 3 * 1e-4, 0.4 - 3 * 0.004  # synthetic_tables.py: three CMRs now
    upload_s = before.payload_bytes[at] * 8e-6 / 4
    assert known.e2e_latency_s[at] == pytest.approx(encode_s + upload_s + 0.005 + inference_s + 0.04)
    if ahead.downsample_mask is not None:
        assert ahead.downsample_mask[1, 3]


def test_what_has_no_regions_any_more_is_no_candidate(policy: Policy) -> None:
    everywhere = [tuple(region) for region in np.argwhere(np.ones(GRID.shape))]
    no_sbr = moving(*everywhere)  # all regions move: none is an SBR, so tau_d 2 downsamples what tau_d 1 does
    no_cmr = moving(DOR)
    estimates = policy.estimate_ahead(no_sbr)
    known = decided(policy, replace(no_cmr, ahead=estimates))
    assert known.estimates_age_frames == 0
    assert set(known.explanation.tau_d.tolist()) == set(decided(policy, no_cmr).explanation.tau_d.tolist()) == {0, 2}


@pytest.mark.parametrize("seconds_late", [0.0, 0.1])
def test_what_is_older_than_a_second_is_not_used(policy: Policy, seconds_late: float) -> None:
    now = state(frame_index=30 + round(30 * seconds_late))
    estimates = policy.estimate_ahead(state(frame_index=0))
    assert decided(policy, replace(now, ahead=estimates)).estimates_age_frames == (None if seconds_late else 30)


def test_what_was_estimated_before_the_first_result_lacks_what_can_be_downsampled_now(policy: Policy) -> None:
    estimates = policy.estimate_ahead(state(frame_index=0, results=0))
    known = decided(policy, replace(state(), ahead=estimates))
    assert known.estimates_age_frames is None
    assert len(known.explanation.tau_d) == 77
    still = decided(policy, replace(state(results=0), ahead=estimates))
    assert still.estimates_age_frames == 9


def test_other_decision_regions_are_estimated_for_themselves(policy: Policy) -> None:
    grid = RegionGrid(1280, 720, window=5)
    other = state(grid=grid, motion=Motion(np.zeros(grid.shape, np.float32), 0.1), frame_index=8)
    assert decided(policy, replace(state(), ahead=policy.estimate_ahead(other))).estimates_age_frames is None


def test_a_correction_of_sizes_counts_from_the_result_on_that_brings_it(vitmalis_options: dict) -> None:
    policy = build_policy("vitmalis", estimate_ahead=True, size_correction=1.0, **vitmalis_options)
    first = decided(policy, state())
    estimates = policy.estimate_ahead(state())
    expected = first.explanation.payload_bytes
    twice = replace(outcome(4.0), decision=first, payload_bytes=round(2 * expected[first.explanation.chosen]))
    policy.observe(twice)
    second = decided(policy, replace(state(frame_index=12), ahead=estimates))
    assert second.estimates_age_frames == 3
    np.testing.assert_allclose(second.explanation.payload_bytes, 2 * expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["bandit", "fixed", "oracle"])
def test_policies_without_estimators_have_no_such_option(name: str) -> None:
    with pytest.raises(UserError, match=rf"policy '{name}' does not take these options.*estimate_ahead"):
        build_policy(name, estimate_ahead=True)
