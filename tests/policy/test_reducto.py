"""policy=reducto by hand: which frames it declines."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.policy import ClientState, build_policy
from vitmalis.policy.frame_change import WIDTH_PX, ChangeFilter, changed_share, edge_pixels
from vitmalis.regions import RegionGrid
from vitmalis.types import RgbImage

GRID = RegionGrid(480, 320, window=5)


def square(left: int) -> RgbImage:
    """A white square of 80 px on black, which is one of 40 px in the reduced image."""
    image = np.zeros((320, 480, 3), np.uint8)
    image[100:180, left : left + 80] = 255
    return image


def state(frame_index: int, left: int, last_offloaded: int = 0, last_result: int | None = 0) -> ClientState:
    """Of a frame with the square, at 10 FPS."""
    return ClientState(
        frame_index=frame_index,
        grid=GRID,
        frame_interval_s=0.1,
        time_s=frame_index / 10,
        frames_since_offload=frame_index - last_offloaded,
        results=0 if last_result is None else 1,
        result_age_frames=0 if last_result is None else frame_index - last_result,
        image=square(left),
    )


def test_the_change_of_a_square_that_moves_is_that_of_its_contours() -> None:
    still, same, moved = (edge_pixels(square(left)) for left in (100, 100, 220))
    assert still.shape == (WIDTH_PX * 320 // 480, WIDTH_PX)
    assert changed_share(still, same) == 0.0
    assert still.sum() == pytest.approx(4 * 40, abs=8), "its contour"
    assert changed_share(still, moved) == pytest.approx(2 * still.sum() / still.size), "one contour goes, one comes"


def test_a_frame_like_the_last_offloaded_one_is_declined_and_a_changed_one_is_not() -> None:
    policy = build_policy("reducto", change_threshold=0.005, segment_s=1.0)
    assert policy.decide(state(0, 100, last_result=None)) is not None
    assert policy.decide(state(1, 100)) is None
    assert policy.decide(state(2, 220)) is not None, "320 of 38400 pixels have changed"
    assert policy.decide(state(3, 220, last_offloaded=2, last_result=2)) is None, "it is compared with frame 2"
    assert policy.decide(state(4, 100, last_offloaded=2, last_result=2)) is not None


def test_a_segment_starts_with_an_offload() -> None:
    policy = build_policy("reducto", change_threshold=1.0, segment_s=0.5)
    offloaded = [0]
    for index in range(12):
        if policy.decide(state(index, 10 * index, offloaded[-1], offloaded[-1] if index else None)) and index:
            offloaded.append(index)
    assert offloaded == [0, 5, 10]


def test_after_a_lost_offload_nothing_is_declined() -> None:
    policy = build_policy("reducto")
    policy.decide(state(0, 100, last_result=None))
    assert policy.decide(state(3, 100, last_result=None)) is not None, "there is no result at all"
    assert policy.decide(state(5, 100, last_offloaded=3, last_result=0)) is not None, "that of frame 3 is missing"


def test_a_threshold_of_zero_passes_every_change() -> None:
    change = ChangeFilter(0.0, longest_s=9.0)
    edges = [edge_pixels(square(left)) for left in (100, 100, 102)]
    assert [change.passes(of_frame, 0.1) for of_frame in edges] == [True, False, True]


@pytest.mark.parametrize(("option", "value"), [("change_threshold", -0.1), ("change_threshold", 2), ("segment_s", 0)])
def test_an_option_out_of_range_is_named(option: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"policy\.{option}={value}: give a"):
        build_policy("reducto", **{option: value})
