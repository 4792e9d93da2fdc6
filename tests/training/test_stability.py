"""Temporal stability by hand, on a sliding textured image under boxes that do or do not follow it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sliding_scene import FRAMES, SHIFT_PX, sliding_scene
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.training.detection.stability import persistence, temporal_stability, tracked_f1


@pytest.fixture(scope="module")
def slide() -> list[RgbImage]:
    return sliding_scene()


def person(t: int, left: float = 60, score: float = 0.9) -> Detections:
    """40 x 80 px, sliding along: without flow its IoU with itself a frame later is 24 / 56."""
    x = left + SHIFT_PX * t
    return Detections.of([[x, 80, x + 40, 160]], [score], [0])


def test_boxes_that_move_with_the_image_are_stable(slide: list[RgbImage]) -> None:
    assert temporal_stability((image, person(t)) for t, image in enumerate(slide)) == 1


def test_boxes_that_stay_while_the_image_moves_are_not(slide: list[RgbImage]) -> None:
    assert temporal_stability((image, person(0)) for image in slide) == 0


def test_a_box_dropped_in_every_second_frame_is_never_found_again(slide: list[RgbImage]) -> None:
    found = [person(t) if t % 2 == 0 else Detections.empty() for t in range(FRAMES)]
    assert temporal_stability(zip(slide, found, strict=True)) == 0


def test_a_half_where_each_frame_keeps_one_box_of_two(slide: list[RgbImage]) -> None:
    """Three objects, by turns missing: frame 0 has the first two, frame 1 the last two, frame 2 the last and first."""
    found = [person(t, 60 + 100 * (t % 3)).with_more(person(t, 60 + 100 * ((t + 1) % 3))) for t in range(3)]
    assert temporal_stability(zip(slide, found, strict=False)) == 0.5


def test_a_half_where_every_box_lasts_two_frames(slide: list[RgbImage]) -> None:
    found = [person(0), person(1), Detections.empty()]
    assert temporal_stability(zip(slide, found, strict=False)) == 0.5


@pytest.mark.parametrize("changed", [Detections.of([[76, 80, 116, 160]], [0.9], [2]), person(1, score=0.49)])
def test_another_class_or_a_faint_box_is_no_match(slide: list[RgbImage], changed: Detections) -> None:
    assert temporal_stability(zip(slide, [person(0), changed], strict=False)) == 0


def test_one_box_is_the_match_of_one_only(slide: list[RgbImage]) -> None:
    assert temporal_stability(zip(slide, [person(0).with_more(person(0, 62)), person(1)], strict=False)) == 0.5


def test_a_box_that_the_flow_loses_is_looked_for_where_it_was() -> None:
    """From one noise image to another there is nothing to track."""
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (240, 400, 3), np.uint8) for _ in range(2)]
    assert temporal_stability((image, person(0)) for image in noise) == 1


def test_without_boxes_there_is_no_stability(slide: list[RgbImage]) -> None:
    assert temporal_stability((image, Detections.empty()) for image in slide) is None


def test_persistence_by_hand() -> None:
    here, moved, far = [0, 0, 40, 40], [4, 0, 44, 40], [100, 0, 140, 40]
    found = [
        Detections.of([here, far], [0.9, 0.6], [0, 2]),
        Detections.of([moved, far, far], [0.8, 0.6, 0.45], [0, 0, 2]),
        Detections.of([moved], [0.8], [0]),
    ]
    # First frame: the person stays, the car becomes a person. Second frame: one person stays, the other is lost.
    assert persistence(found) == pytest.approx(2 / 4)
    assert persistence([Detections.empty()] * 3) is None


def test_references_that_move_with_the_image_are_tracked(slide: list[RgbImage]) -> None:
    assert tracked_f1(slide, *[[person(t) for t in range(FRAMES)]] * 2) == 1


def test_f1_of_tracked_references_by_hand(slide: list[RgbImage]) -> None:
    """Two persons, of whom one is missing in frame 1 and too faint to count in frame 3."""
    other = [person(t, 200, score=0.4 if t == 3 else 0.9) for t in range(FRAMES)]
    found = [person(t) if t == 1 else person(t).with_more(other[t]) for t in range(FRAMES)]
    # Steps: one tracked box too many, one missed, one too many, one missed, next to one that matches in each.
    assert tracked_f1(slide, found, found) == pytest.approx(2 * 4 / (2 * 4 + 2 + 2))


def test_a_box_that_the_tracker_loses_is_missed(slide: list[RgbImage]) -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (240, 400, 3), np.uint8) for _ in range(2)]
    assert tracked_f1(noise, *[[person(0)] * 2] * 2) == 0
    assert tracked_f1(slide, [person(0)] * FRAMES, [Detections.empty()] * FRAMES) is None
