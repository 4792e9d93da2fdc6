"""Candidates with cached regions by hand: which regions they cache, what they should cost, and what is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_vitmalis import CMR, DOR, GRID, outcome, state

from vitmalis.errors import UserError
from vitmalis.estimation import Candidates
from vitmalis.explanation import DecisionExplanation
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.base import CachedFrame, check_decision
from vitmalis.policy.candidate_treatments import CandidateTreatments, region_texture
from vitmalis.policy.region_caching import RegionCaching
from vitmalis.policy.region_change import PIXELS_PER_TOKEN
from vitmalis.regions import RegionGrid, RegionType
from vitmalis.types import Configuration

FLAT = np.full((540, 960, 3), 100, np.uint8)
FIRST = CachedFrame(offload_id=0, frame_index=0, restoration_point=4)
TOKENS = GRID.patch_rows * GRID.patch_cols


@pytest.fixture(params=["freshness", "vitmalis"])
def policy(request: pytest.FixtureRequest, vitmalis_options: dict) -> Policy:
    return build_policy(request.param, cached_regions=True, cached_f1_loss=0.1, first_frame="full", **vitmalis_options)


def decided(policy: Policy, seen: ClientState) -> tuple[OffloadDecision, DecisionExplanation]:
    decision = policy.decide(seen)
    assert decision is not None
    check_decision(decision, GRID)
    assert decision.explanation is not None
    return decision, decision.explanation


def after_a_whole_frame(policy: Policy, **changes: Any) -> tuple[OffloadDecision, DecisionExplanation]:
    """The decision for frame 9, once the server has cached the tokens of frame 0, which nothing was known of."""
    first, why = decided(policy, state(frame_index=0, time_s=0.0, results=0, image=FLAT))
    assert first.configuration.restoration_point == 4
    assert first.caching is not None
    assert (first.caching.base, first.caching.mask) == (None, None)
    assert (len(why.tau_d), why.cached_regions) == (7, None)
    return decided(policy, state(image=FLAT, cached_frame=FIRST, **changes))


def test_each_configuration_that_restores_where_tokens_are_cached_may_have_regions_cached(policy: Policy) -> None:
    _, why = after_a_whole_frame(policy)
    assert why.cached_regions is not None
    assert why.cached_regions.tolist() == [0] * 77 + [23] * 21, "nothing changed, and one region has to be sent"
    assert set(why.restoration_point[77:].tolist()) == {4}
    assert why.tau_d[77:].tolist() == [0] * 7 + [1] * 7 + [2] * 7


def test_what_is_expected_of_them_follows_from_the_same_configuration_without(policy: Policy) -> None:
    _, why = after_a_whole_frame(policy)
    sent = 100 / TOKENS, 100 / (TOKENS - 75), 100 / (100 + (TOKENS - 100) / 4)  # the first region is 10 x 10 tokens
    for index in range(77, 98):
        tau_d, quality = why.tau_d[index], why.quality[index]
        point = 4 if tau_d else 0
        (plain,) = np.flatnonzero(
            (why.tau_d[:77] == tau_d) & (why.quality[:77] == quality) & (why.restoration_point[:77] == point)
        )
        assert why.payload_bytes[index] == pytest.approx(why.payload_bytes[plain] * sent[tau_d])
        assert why.f1[index] == pytest.approx(why.f1[plain] - 0.1 * 23 / 24)
        encode_s, inference_s = 0.004 + quality * 4e-5 - 23 * 1e-4, 0.4 - 0.002 * 4 * 23 * 4 / 3
        upload_s = why.payload_bytes[index] * 8e-6 / 10.0
        assert why.e2e_latency_s[index] == pytest.approx(encode_s + upload_s + 0.005 + inference_s + 0.04)


def test_estimates_that_were_made_ahead_serve_them_too(policy: Policy) -> None:
    _, own = after_a_whole_frame(policy)
    ahead, known = after_a_whole_frame(policy, ahead=policy.estimate_ahead(state(frame_index=3)))
    assert ahead.estimates_age_frames == 6
    np.testing.assert_array_equal(known.payload_bytes, own.payload_bytes)
    np.testing.assert_array_equal(known.f1, own.f1)


def test_the_chosen_candidate_is_what_is_sent(vitmalis_options: dict) -> None:
    options = {"cached_regions": True, "cached_f1_loss": 0.0, "first_frame": "full", **vitmalis_options}
    decision, why = after_a_whole_frame(build_policy("freshness", **options))
    assert why.chosen >= 77, "nothing but time is lost by sending more"
    assert decision.configuration.restoration_point == 4
    assert decision.caching is not None
    assert decision.caching.base == 0
    assert decision.caching.mask is not None
    assert np.argwhere(~decision.caching.mask).tolist() == [list(DOR)]
    costly, why = after_a_whole_frame(build_policy("freshness", **options | {"cached_f1_loss": 1.0}))
    assert why.chosen < 77
    assert costly.caching is None or costly.caching.mask is None


def test_what_changed_is_sent(policy: Policy) -> None:
    decided(policy, state(frame_index=0, time_s=0.0, results=0, image=FLAT))
    image = FLAT.copy()
    image[160 * CMR[0] + 32 : 160 * CMR[0] + 48, 160 * CMR[1] + 32 : 160 * CMR[1] + 48] = 255
    _, why = decided(policy, state(image=image, cached_frame=FIRST))
    assert why.cached_regions is not None
    assert set(why.cached_regions[77:].tolist()) == {23}


def test_low_tokens_serve_where_low_resolution_would_be_sent_only() -> None:
    caching, low, none = RegionCaching(8.0, 1, 2.0), np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    low[CMR] = True
    first = caching.frame(state(frame_index=0, time_s=0.0, image=FLAT))
    assert first is not None
    caching.send(first, OffloadDecision(Configuration(1, 75, 4), low, caching=TokenCaching()))
    frame = caching.frame(state(image=FLAT, cached_frame=FIRST))
    assert frame is not None
    sent = {name: np.argwhere(~mask).tolist() for name, mask in (
        ("all full", frame.caching(none).mask), ("low", frame.caching(low).mask), ("any", frame.caching().mask),
    ) if mask is not None}  # fmt: skip
    assert sent == {"all full": [list(CMR)], "low": [[0, 0]], "any": [[0, 0]]}
    cached = frame.caching(none)
    caching.send(frame, OffloadDecision(Configuration(0, 75, 4), caching=cached))
    later = caching.frame(state(image=FLAT, cached_frame=CachedFrame(1, 9, 4)))
    assert later is not None
    assert later.base is not None
    assert not later.base[1].low.any(), "the low region was sent in full meanwhile"


def test_every_offload_is_cached_unless_resolution_is_restored_before_the_first_block() -> None:
    types = np.full(GRID.shape, RegionType.DOR, np.int8)
    types[CMR] = RegionType.CMR
    frame = RegionCaching(8.0, 1, 2.0).frame(state(image=FLAT))
    candidates = Candidates.of([Configuration(0, 75, 0), Configuration(1, 75, 2), Configuration(1, 75, 0)])
    for treatments, points, asked in (
        (CandidateTreatments(types, frame, caching_point=3), [3, 2, 0], [True, True, False]),
        (CandidateTreatments(types), [0, 2, 0], [False, False, False]),
    ):
        decisions = [treatments.decision(candidates, index) for index in range(3)]
        assert [decision.configuration.restoration_point for decision in decisions] == points
        assert [decision.caching is not None for decision in decisions] == asked
        assert [decision.configuration.tau_d for decision in decisions] == [0, 1, 1]


def test_a_server_that_caches_nothing_is_asked_again_later(vitmalis_options: dict) -> None:
    policy = build_policy("freshness", cached_regions=True, restoration_points=[4], **vitmalis_options)
    decision, _ = decided(policy, state(frame_index=0, time_s=0.0, results=0, image=FLAT))
    policy.observe(replace(outcome(4.0), decision=decision, tokens_cached=False))
    for time_s, asked in ((1.9, False), (2.0, True)):
        again, _ = decided(policy, state(image=FLAT, time_s=time_s))
        assert (again.caching is not None) == asked


def test_texture_is_differences_of_adjacent_pixels_and_a_bit_for_each() -> None:
    grid = RegionGrid(96, 32, window=1)  # regions of 2 x 2 tokens, three of them
    image = np.full((2 * PIXELS_PER_TOKEN, 6 * PIXELS_PER_TOKEN), 50, np.uint8)
    image[:, 8:] += 10  # a step between the first two regions counts for the second
    image[4:, 16:] += 3  # one within the third, and along its left edge
    assert region_texture(image, grid).tolist() == [[4.0 * 64, 4.0 * 64 + 8 * 10, 4.0 * 64 + 8 * 3 + 4 * 3]]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("change_threshold", -1.0, r"policy.change_threshold=-1.0"),
        ("cached_f1_loss", 2.0, r"policy.cached_f1_loss=2.0: give a difference of F1 from 0 to 1"),
        ("restoration_points", [0], r"policy.restoration_points=\[0\]: tokens are cached from 1 on"),
    ],
)
def test_options_out_of_range_are_named(vitmalis_options: dict, option: str, value: object, named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_policy("freshness", **{"cached_regions": True, option: value}, **vitmalis_options)
