"""Frames before the first result, when no object is known: whole, or at low resolution throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_vitmalis import GRID, state

from tests.policy.small_world import ACCURACY, SIZE
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.oracle import Oracle
from vitmalis.policy.regions import RegionClassifier
from vitmalis.regions import Motion, RegionType
from vitmalis.types import Configuration, Detections

LOSSES = [0.0, 0.05, 0.1, 0.2, 0.3]
REGIONS = GRID.shape[0] * GRID.shape[1]


def first(**changes: Any) -> ClientState:
    """The state of the first frame: nothing is known of motion or objects."""
    return state(**({"results": 0, "tracked": Detections.empty(), "motion": None} | changes))


def decided(policy: Policy, seen: ClientState) -> OffloadDecision:
    decision = policy.decide(seen)
    assert decision is not None
    return decision


@pytest.fixture(params=["vitmalis", "freshness"])
def searching(request: pytest.FixtureRequest, vitmalis_options: dict) -> Policy:
    low = {"first_frame": "low", "first_frame_f1_loss": LOSSES, "estimate_ahead": True}
    return build_policy(request.param, **low, **vitmalis_options)


@pytest.mark.parametrize("motion", [None, Motion(np.full(GRID.shape, 1 / REGIONS, np.float32), 0.3)])
def test_regions_are_sbrs_until_there_is_a_result(motion: Motion | None) -> None:
    low, full = RegionClassifier(first_frame="low"), RegionClassifier()
    content = low.classify(first(motion=motion))
    assert (content.region_types == RegionType.SBR).all()
    assert not content.known
    assert (full.classify(first(motion=motion)).region_types == RegionType.DOR).all()
    assert (low.classify(state(motion=None)).region_types == RegionType.DOR).all()  # objects are known, motion is not
    np.testing.assert_array_equal(low.classify(state()).region_types, full.classify(state()).region_types)


def test_fixed_sends_frames_low_throughout_until_there_is_a_result() -> None:
    policy = build_policy("fixed", first_frame="low")
    decision = decided(policy, first())
    assert decision.configuration == Configuration(2, 75, 4)
    assert decision.downsample_mask is not None
    assert decision.downsample_mask.all()
    np.testing.assert_array_equal(
        decided(policy, state()).downsample_mask, decided(build_policy("fixed"), state()).downsample_mask
    )


def test_what_low_resolution_costs_is_the_measured_loss_and_what_quality_costs_is_estimated(searching: Policy) -> None:
    e = decided(searching, first()).explanation
    assert e is not None
    assert set(e.tau_d.tolist()) == {0, 2}
    low = e.tau_d > 0
    loss = np.where(low, np.array(LOSSES)[e.restoration_point], 0.0)
    np.testing.assert_allclose(e.f1, 0.65 + ACCURACY["quality"] * e.quality - loss, atol=1e-6)
    size = SIZE["quality"] * e.quality - 60_000 + SIZE["downsampled_regions"] * REGIONS * low
    np.testing.assert_allclose(e.payload_bytes, np.maximum(size, 1), rtol=1e-6)


def test_an_expected_f1_is_not_below_zero(vitmalis_options: dict) -> None:
    policy = build_policy("freshness", first_frame_f1_loss=[1.0] * 5, **vitmalis_options)
    decision = decided(policy, first())
    assert decision.explanation is not None
    assert decision.explanation.f1.min() == 0.0
    assert decision.downsample_mask is None, "boxes that are worth nothing are not waited for"


def test_freshness_sends_the_first_frame_low_and_vitmalis_as_the_paper_does(vitmalis_options: dict) -> None:
    low = decided(build_policy("freshness", **vitmalis_options), first()).downsample_mask
    assert low is not None
    assert low.all()
    plain = decided(build_policy("vitmalis", **vitmalis_options), first())
    assert plain.downsample_mask is None
    assert plain.explanation is not None
    assert set(plain.explanation.tau_d.tolist()) == {0}


def test_estimates_ahead_of_a_frame_without_known_objects_serve_such_frames_only(searching: Policy) -> None:
    estimates = searching.estimate_ahead(first(frame_index=3))
    assert decided(searching, first(frame_index=9, ahead=estimates)).estimates_age_frames == 6
    known = decided(searching, state(ahead=estimates))
    assert known.estimates_age_frames is None
    np.testing.assert_array_equal(known.explanation.f1, decided(searching, state()).explanation.f1)


def test_the_oracle_tries_frames_that_are_low_throughout() -> None:
    tried = Oracle(first_frame="low", qualities=[75], restoration_points=[2])._candidates(first())
    assert [decision.configuration.tau_d for decision in tried] == [0, 2]
    assert tried[1].downsample_mask is not None
    assert tried[1].downsample_mask.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_frame": "half"}, "policy.first_frame=half: choose one of full, low"),
        ({"first_frame_f1_loss": [0, 0, 0, 0, 2]}, r"policy.first_frame_f1_loss=\[0, 0, 0, 0, 2\]: give differences"),
        ({"first_frame_f1_loss": [0.1]}, r"policy.restoration_points has 4, but .*=\[0.1\] is of .* 0 to 0 only"),
    ],
)
def test_invalid_options_are_refused(vitmalis_options: dict, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_policy("freshness", **(vitmalis_options | options))
