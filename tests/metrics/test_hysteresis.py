"""Hysteresis in references by hand: two objects on a sliding textured image, with scores that cross the thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sliding_scene import SHIFT_PX, sliding_scene
from vitmalis.errors import UserError
from vitmalis.metrics.hysteresis import Hysteresis, with_hysteresis
from vitmalis.types import Detections, RgbImage

HYSTERESIS = Hysteresis(appear=0.6, stay=0.4)


@pytest.fixture(scope="module")
def slide() -> list[RgbImage]:
    return sliding_scene()


def box(t: int, score: float, label: int = 0, left: float = 60) -> Detections:
    """40 x 80 px, sliding along: without flow its IoU with itself a frame later is 24 / 56, below 0.5."""
    x = left + SHIFT_PX * t
    return Detections.of([[x, 80, x + 40, 160]], [score], [label])


def counted(images: list[RgbImage], found: list[Detections]) -> list[int]:
    """Count the objects of each frame."""
    return [len(objects) for objects in with_hysteresis(images, found, HYSTERESIS)]


@pytest.mark.parametrize(
    ("scores", "objects"),
    [
        ([0.5, 0.6, 0.5, 0.4, 0.3], [0, 1, 1, 1, 0]),  # appears at 0.6, stays down to 0.4
        ([0.7, 0.3, 0.5, 0.5, 0.6], [1, 0, 0, 0, 1]),  # once gone, it has to appear again
        ([0.5, 0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0, 0]),
    ],
)
def test_an_object_appears_at_one_score_and_stays_down_to_another(
    slide: list[RgbImage], scores: list[float], objects: list[int]
) -> None:
    assert counted(slide, [box(t, score) for t, score in enumerate(scores)]) == objects


def test_kept_objects_have_their_own_boxes_and_count_as_references(slide: list[RgbImage]) -> None:
    found = [box(0, 0.9).with_more(box(0, 0.5, left=200)), box(1, 0.45)]
    first, second = with_hysteresis(slide[:2], found, HYSTERESIS)
    assert (first.scores.tolist(), second.scores.tolist()) == (pytest.approx([0.9]), pytest.approx([0.6]))
    np.testing.assert_array_equal(second.boxes_xyxy, found[1].boxes_xyxy)


def test_another_class_or_place_does_not_continue_an_object(slide: list[RgbImage]) -> None:
    assert counted(slide[:2], [box(0, 0.9), box(1, 0.5, label=2)]) == [1, 0]
    assert counted(slide[:2], [box(0, 0.9), box(0, 0.5)]) == [1, 0]  # stays in place where the object moved on


def test_one_object_continues_in_one_box_the_surest(slide: list[RgbImage]) -> None:
    *_, second = with_hysteresis(slide[:2], [box(0, 0.9), box(1, 0.45).with_more(box(1, 0.5, left=62))], HYSTERESIS)
    np.testing.assert_array_equal(second.boxes_xyxy, box(1, 0.5, left=62).boxes_xyxy)


def test_an_object_that_the_flow_loses_is_looked_for_where_it_was() -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (240, 400, 3), np.uint8) for _ in range(2)]
    assert counted(noise, [box(0, 0.9), box(0, 0.5)]) == [1, 1]


@pytest.mark.parametrize(("appear", "stay"), [(0.5, 0.5), (0.4, 0.5), (0.6, 0.0), (1.2, 0.5)])
def test_scores_that_make_no_hysteresis_are_refused(appear: float, stay: float) -> None:
    with pytest.raises(UserError, match="must lie above 0 and below appear"):
        Hysteresis(appear, stay)
