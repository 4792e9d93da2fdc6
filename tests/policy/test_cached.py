"""policy=cached by hand: which regions it sends, and which come from cached tokens."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.base import CachedFrame, check_decision
from vitmalis.policy.region_change import least_changes, reduced
from vitmalis.regions import RegionGrid
from vitmalis.types import Configuration, RgbImage

GRID = RegionGrid(480, 320, window=5)  # 2 x 3 regions of 160 px
TEXTURE = np.random.default_rng(0).integers(0, 256, (22, 32, 3), np.uint8).repeat(16, 0).repeat(16, 1)


def frame(down: int = 0, right: int = 0, brighter: tuple[int, int] | None = None) -> RgbImage:
    """A window on the texture, 16 px inside; one macroblock of a region is turned to white."""
    image = TEXTURE[16 - down : 336 - down, 16 - right : 496 - right].copy()
    if brighter is not None:
        top, left = (160 * at + 32 for at in brighter)
        image[top : top + 16, left : left + 16] = 255
    return image


def decide(policy: Policy, index: int, image: RgbImage, cached_frame: CachedFrame | None) -> OffloadDecision:
    state = ClientState(
        frame_index=index, grid=GRID, frame_interval_s=0.1, time_s=index / 10, image=image, cached_frame=cached_frame
    )
    decision = policy.decide(state)
    assert decision is not None
    return decision


def test_what_did_not_change_is_cached_until_it_is_refreshed() -> None:
    policy = build_policy("cached", refresh_s=1.0)
    whole = decide(policy, 0, frame(), None)
    assert whole.configuration.restoration_point == 4
    assert whole.caching is not None
    assert whole.caching.mask is None
    changed = decide(policy, 3, frame(brighter=(1, 2)), CachedFrame(0, 0, 4))
    assert changed.caching is not None
    assert changed.caching.base == 0
    np.testing.assert_array_equal(changed.caching.mask, [[True, True, True], [True, True, False]])
    later = decide(policy, 11, frame(brighter=(1, 2)), CachedFrame(1, 3, 4))
    assert later.caching is not None
    np.testing.assert_array_equal(later.caching.mask, [[False, False, False], [False, False, True]])


def test_a_frame_without_change_still_sends_a_region() -> None:
    policy = build_policy("cached")
    decide(policy, 0, frame(), None)
    same = decide(policy, 3, frame(), CachedFrame(0, 0, 4))
    assert same.caching is not None
    assert same.caching.mask is not None
    assert int(same.caching.mask.sum()) == 5


def test_content_that_moves_by_a_token_is_found() -> None:
    changes, displacements = least_changes(reduced(frame(down=16), GRID), reduced(frame(), GRID), GRID, reach=1)
    assert (displacements[1] == [1, 0]).all(), "of the upper regions, the first row of tokens comes from outside"
    assert (changes[1] == 0).all()
    still, _ = least_changes(reduced(frame(down=16), GRID), reduced(frame(), GRID), GRID, reach=0)
    assert (still > 30).all()


def test_lost_tokens_are_followed_by_a_whole_frame() -> None:
    policy = build_policy("cached")
    decide(policy, 0, frame(), None)
    for cached_frame in (None, CachedFrame(7, 2, 4)):  # of a frame that it does not know
        lost = decide(policy, 3, frame(), cached_frame)
        assert lost.caching is not None
        assert lost.caching.mask is None
        assert lost.downsample_mask is None


def test_a_server_that_caches_nothing_gets_what_fixed_sends_and_is_asked_again_later() -> None:
    policy, fixed = build_policy("cached", refresh_s=1.0), build_policy("fixed", tau_d=1, quality=75)
    whole = decide(policy, 0, frame(), None)
    policy.observe(OffloadOutcome(0, whole, 1000, *[0.01] * 5, e2e_latency_s=0.2, tokens_cached=False))
    plain = decide(policy, 3, frame(), None)
    assert plain.caching is None
    assert plain.configuration == decide(fixed, 3, frame(), None).configuration
    again = decide(policy, 10, frame(), None)
    assert again.caching is not None
    policy.observe(OffloadOutcome(10, again, 1000, *[0.01] * 5, e2e_latency_s=0.2, tokens_cached=True))
    assert decide(policy, 11, frame(), CachedFrame(1, 10, 4)).cached_mask is not None


@pytest.mark.parametrize(
    ("option", "value"), [("restoration_point", 0), ("change_threshold", -1.0), ("reach", 9), ("refresh_s", 0.0)]
)
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"policy.{option}={value}"):
        build_policy("cached", **{option: value})


SOME = np.array([[True, False, True], [False, False, False]])
CACHED = OffloadDecision(Configuration(0, 75, 4), caching=TokenCaching(0, SOME))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_downsampling": 2}, "chose cached regions and frame_downsampling=2"),
        ({"blank_mask": SOME}, "chose cached regions and blank_mask"),
        ({"configuration": Configuration(0, 75, 0)}, "restoration_point=0 with caching"),
        ({"caching": TokenCaching(None, SOME)}, "cached regions of offload None: give state.cached_frame.offload_id"),
        ({"caching": TokenCaching(-1, SOME)}, "cached regions of offload -1"),
        ({"caching": TokenCaching(0, np.ones((2, 3), bool))}, "all regions are cached"),
        ({"caching": TokenCaching(0, SOME, np.full((2, 3, 2), 200))}, "displacements int64 "),
        ({"caching": TokenCaching(0, SOME, np.zeros((3, 2, 2), np.int8))}, "give int8 (2, 3, 2)"),
    ],
)
def test_cached_regions_that_no_client_can_send_are_one_line(changes: dict[str, Any], message: str) -> None:
    check_decision(CACHED, GRID)
    check_decision(replace(CACHED, downsample_mask=~SOME), GRID)
    with pytest.raises(UserError, match=re.escape(message)):
        check_decision(replace(CACHED, **changes), GRID)
