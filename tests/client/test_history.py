from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.client.history import FrameHistory

GRAY = np.zeros((2, 2), np.uint8)


@given(capacity=st.integers(4, 40), frames=st.integers(1, 300))
def test_bounded_ordered_and_both_ends_kept(capacity: int, frames: int) -> None:
    history = FrameHistory(capacity)
    for index in range(frames):
        history.append(index, GRAY)
        assert len(history) <= capacity
    indices = [index for index, _ in history.since(0)]
    assert indices == sorted(set(indices))
    assert (indices[0], indices[-1]) == (0, frames - 1)


def test_needed_frames_stay() -> None:
    history = FrameHistory(8)
    for index in range(100):
        history.append(index, GRAY, needed=(3, 7))
        assert len(history) <= 8 + 2
    assert (3 in history, 7 in history, 5 in history) == (True, True, False)


def test_forgotten_frame_cannot_be_a_start() -> None:
    history = FrameHistory(8)
    for index in range(5):
        history.append(index, GRAY)
    history.forget_before(2)
    assert [index for index, _ in history.since(2)] == [2, 3, 4]
    with pytest.raises(KeyError, match="frame 1"):
        history.since(1)


def test_too_short_a_history_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        FrameHistory(3)


def test_frames_that_were_dropped_are_not_in_it() -> None:
    history = FrameHistory(8)
    for index in range(4):
        history.append(index, GRAY)
    history.forget_before(2)
    assert [index in history for index in range(5)] == [False, False, True, True, False]
