"""policy=accmpeg by hand: which macroblocks it codes at the lower quality."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.policy import ClientState, build_policy
from vitmalis.policy.accmpeg import object_macroblocks
from vitmalis.regions import RegionGrid
from vitmalis.types import Detections


def state(*boxes: tuple[float, float, float, float]) -> ClientState:
    """Of a frame of 7 x 6 macroblocks, the last ones partial, with these objects."""
    objects = Detections.of(list(boxes), [0.9] * len(boxes), [0] * len(boxes)) if boxes else Detections.empty()
    return ClientState(1, RegionGrid(100, 90, window=5), 0.1, 0.1, tracked=objects, results=1)


def test_macroblocks_at_an_object_and_around_it() -> None:
    box = Detections.of([[33, 16, 63.5, 32]], [0.9], [0])
    found = object_macroblocks(box, 100, 90, margin=0)
    assert found.shape == (6, 7)
    assert np.argwhere(found).tolist() == [[1, 2], [1, 3]]
    assert np.argwhere(object_macroblocks(box, 100, 90, margin=1)).tolist() == [
        [row, col] for row in (0, 1, 2) for col in (1, 2, 3, 4)
    ]


def test_an_object_beyond_the_frame_has_no_macroblocks() -> None:
    for box in ([-40, -40, -20, -20], [200, 200, 220, 220]):
        assert not object_macroblocks(Detections.of([box], [0.9], [0]), 100, 90, margin=0).any()


def test_everything_else_has_the_lower_quality() -> None:
    decision = build_policy("accmpeg", margin=0, coarse_quality=20).decide(state((33, 16, 63.5, 32)))
    assert (decision.configuration.quality, decision.coarse_quality) == (95, 20)
    assert int(decision.coarse_mask.sum()) == 6 * 7 - 2


def test_a_frame_without_objects_or_full_of_them_is_sent_as_it_is() -> None:
    policy = build_policy("accmpeg")
    assert policy.decide(state()).coarse_mask is None
    assert policy.decide(state((0, 0, 100, 90))).coarse_mask is None


@pytest.mark.parametrize(("option", "value"), [("coarse_quality", 0), ("coarse_quality", 95), ("margin", -1)])
def test_an_option_out_of_range_is_named(option: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"policy\.{option}={value}: give a"):
        build_policy("accmpeg", **{option: value})
