"""Contract of all trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vitmalis.instance_masks import MASK_SIDE
from vitmalis.tracker.base import Tracker
from vitmalis.types import Detections, RgbImage

BOXES = Detections.of([[300, 200, 380, 300], [500, 100, 540, 160], [20, 300, 90, 350]], [0.9, 0.8, 0.7], [0, 2, 5])
STEP = np.array([4, 2])
"""Motion of everything in view from one frame to the next, pixels."""


def _moved(frames: int) -> NDArray[Any]:
    return BOXES.boxes_xyxy + np.tile(frames * STEP, 2)


@cache
def _views() -> list[RgbImage]:
    noise = np.random.default_rng(0).integers(0, 255, (700, 1200, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    corners = [(100 - 4 * k, 100 - 2 * k) for k in range(9)]
    return [np.ascontiguousarray(texture[y : y + 540, x : x + 960]) for x, y in corners]


class TrackerContract:
    """Tests of a tracker; see `vitmalis.testing`."""

    make: Callable[[], Tracker]

    @pytest.fixture
    def views(self) -> list[RgbImage]:
        """Nine frames of a textured scene that moves by `STEP`."""
        return list(_views())

    @pytest.fixture
    def build(self) -> Callable[[], Tracker]:
        """Build an instance of the tracker."""
        return self.make

    @pytest.fixture
    def tracker(self, build: Callable[[], Tracker]) -> Tracker:
        """Build a tracker, which has no objects yet."""
        return build()

    def test_boxes_follow_what_they_are_on_at_once_and_frame_by_frame(
        self, tracker: Tracker, views: list[RgbImage]
    ) -> None:
        """A catch-up through many frames and single steps lead to the same place."""
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, BOXES)
        at_once = tracker.advance(later)
        np.testing.assert_allclose(at_once.boxes_xyxy, _moved(8), atol=1.5)
        tracker.restart(first, BOXES)
        for image in later:
            found = tracker.advance([image])
        np.testing.assert_allclose(found.boxes_xyxy, _moved(8), atol=1.5)
        assert tracker.boxes is found

    def test_locating_boxes_leaves_the_tracked_objects_alone(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """`locate` serves a decision while the display goes on."""
        images = [tracker.prepare(view) for view in views]
        tracker.restart(images[0], BOXES)
        tracked = tracker.advance(images[1:3])
        located = tracker.locate(BOXES, images)
        np.testing.assert_allclose(located.boxes_xyxy, _moved(8), atol=1.5)
        assert (located.labels.tolist(), located.scores.tolist()) == (BOXES.labels.tolist(), BOXES.scores.tolist())
        assert tracker.boxes is tracked
        np.testing.assert_allclose(tracker.advance(images[3:]).boxes_xyxy, _moved(8), atol=1.5)

    def test_locating_keeps_every_box(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """An object that is not found still matters to a decision."""
        changed = np.random.default_rng(1).integers(0, 255, views[0].shape, np.uint8)
        first, other = tracker.prepare(views[0]), tracker.prepare(changed)
        assert len(tracker.locate(BOXES, [first, other])) == len(BOXES), "nothing in the other image is like the first"
        np.testing.assert_allclose(tracker.locate(BOXES, [first]).boxes_xyxy, BOXES.boxes_xyxy, atol=0.01)
        assert len(tracker.locate(Detections.empty(), [first, other])) == 0

    def test_scores_and_labels_stay_with_their_boxes(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """They are those of the result."""
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, BOXES)
        found = tracker.advance(later)
        assert found.labels.tolist() == BOXES.labels.tolist()
        assert found.scores.tolist() == BOXES.scores.tolist()

    def test_masks_stay_with_their_boxes(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """They are given in their boxes, so that whoever moves a box moves its mask."""
        masks = np.arange(3 * MASK_SIDE**2).reshape(3, MASK_SIDE, MASK_SIDE) % 251
        masked = replace(BOXES, masks=masks.astype(np.uint8))
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, masked)
        for found in (tracker.locate(masked, [first, *later]), tracker.advance(later)):
            assert found.masks is not None, "make the moved detections with `Detections.at`"
            np.testing.assert_array_equal(found.masks, masks)
            np.testing.assert_allclose(found.boxes_xyxy, _moved(8), atol=1.5)

    def test_a_restart_begins_at_any_earlier_frame(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """A result is of an earlier frame than the one on screen."""
        images = [tracker.prepare(view) for view in views]
        tracker.restart(images[0], BOXES)
        tracker.advance(images[1:])
        tracker.restart(images[3], BOXES)
        assert tracker.boxes is BOXES
        np.testing.assert_allclose(tracker.advance(images[4:7]).boxes_xyxy, _moved(3), atol=1.5)

    def test_frames_may_be_missing_in_between(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """A full history drops every second frame (`FrameHistory`), and a busy tracker skips to the newest."""
        images = [tracker.prepare(view) for view in views]
        tracker.restart(images[0], BOXES)
        np.testing.assert_allclose(tracker.advance(images[2::2]).boxes_xyxy, _moved(8), atol=1.5)

    def test_one_instance_tracks_what_another_prepared(
        self, build: Callable[[], Tracker], views: list[RgbImage]
    ) -> None:
        """Frames are prepared in the camera's thread, and tracked in another."""
        camera, tracker = build(), build()
        first, *later = map(camera.prepare, views)
        tracker.restart(first, BOXES)
        np.testing.assert_allclose(tracker.advance(later).boxes_xyxy, _moved(8), atol=1.5)

    def test_the_same_frames_give_the_same_boxes_to_the_bit(
        self, build: Callable[[], Tracker], views: list[RgbImage]
    ) -> None:
        """Runs on the virtual clock can be repeated."""
        found = []
        for tracker in (build(), build()):
            first, *later = map(tracker.prepare, views)
            tracker.restart(first, BOXES)
            found.append(tracker.advance(later).boxes_xyxy.tobytes())
        assert found[0] == found[1]

    def test_retention_and_confidence_count_what_is_still_tracked(
        self, tracker: Tracker, views: list[RgbImage]
    ) -> None:
        """Both are 1 while all objects are seen, and policies decide by them."""
        first, *later = map(tracker.prepare, views)
        assert (tracker.objects, tracker.retention) == (0, 1.0)
        tracker.restart(first, BOXES)
        assert (tracker.objects, tracker.retention) == (3, 1.0)
        assert tracker.confidence.tolist() == [1.0] * 3
        tracker.advance(later)
        assert (tracker.objects, tracker.retention) == (3, 1.0)
        assert tracker.confidence.shape == (3,)
        assert (tracker.confidence > 0.9).all(), "everything stays in view and looks as before"

    def test_a_box_that_leaves_the_frame_is_lost(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """It takes its retention along."""
        images = [tracker.prepare(view) for view in reversed(views)]  # to the left, by 4 px a frame
        tracker.restart(images[0], Detections.of([[-10, 300, 20, 350], [300, 200, 380, 300]], [0.9, 0.8], [0, 2]))
        found = tracker.advance(images[1:])
        assert found.labels.tolist() == [2]
        assert tracker.retention == 0.5
        assert tracker.confidence.shape == (1,)

    def test_something_else_in_place_of_an_object_takes_its_confidence(
        self, tracker: Tracker, views: list[RgbImage]
    ) -> None:
        """The confidence in it falls below one half, or it is lost."""
        changed = views[0].copy()
        changed[190:310, 290:390] = np.random.default_rng(1).integers(0, 255, (120, 100, 3))
        first, image = tracker.prepare(views[0]), tracker.prepare(changed)
        tracker.restart(first, BOXES)
        found = tracker.advance([image])
        confidence = dict(zip(found.labels.tolist(), tracker.confidence.tolist(), strict=True))
        assert confidence.get(0, 0.0) < 0.5 < min(confidence[2], confidence[5])

    def test_no_boxes_and_no_frames_are_valid(self, tracker: Tracker, views: list[RgbImage]) -> None:
        """Both happen in every run."""
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, BOXES)
        assert tracker.advance([]) is BOXES, "a result of the newest frame: nothing to catch up with"
        tracker.restart(first, Detections.empty())
        assert len(tracker.advance(later)) == 0
        assert tracker.retention == 1.0

    @pytest.mark.parametrize("boxes", [[[10, 10, 10, 10]], [[950, 530, 1000, 580]], [[0, 0, 960, 540]]])
    def test_boxes_of_any_size_and_place_are_taken(self, tracker: Tracker, views: list[RgbImage], boxes: list) -> None:
        """Detectors return boxes without area, at the border and beyond it."""
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, Detections.of(boxes, [0.9], [0]))
        assert np.isfinite(tracker.advance(later).boxes_xyxy).all()

    @pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 16), (16, 200)])
    def test_the_smallest_frames_are_taken(self, tracker: Tracker, width: int, height: int) -> None:
        """A frame may be a single patch of the detector."""
        draws = np.random.default_rng(0)
        first, *later = (tracker.prepare(draws.integers(0, 255, (height, width, 3), np.uint8)) for _ in range(3))
        tracker.restart(first, Detections.of([[2, 2, 12, 12]], [0.9], [0]))
        assert np.isfinite(tracker.advance(later).boxes_xyxy).all()
