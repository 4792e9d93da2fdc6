"""Contract of all trackers; a new one joins by its entry in `TRACKERS` and its configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from vitmalis.tracker import TRACKERS, Tracker, TrackerOptions, build_tracker, tracker_name
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.run.config import typed

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "tracker").glob("*.yaml"))
BOXES = Detections.of([[300, 200, 380, 300], [500, 100, 540, 160], [20, 300, 90, 350]], [0.9, 0.8, 0.7], [0, 2, 5])
STEP = np.array([4, 2])
"""Motion of everything in view from one frame to the next, pixels."""


@pytest.fixture(scope="module")
def views() -> list[RgbImage]:
    """Nine frames of a textured scene that moves by `STEP`."""
    noise = np.random.default_rng(0).integers(0, 255, (700, 1200, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    corners = [(100 - 4 * k, 100 - 2 * k) for k in range(9)]
    return [np.ascontiguousarray(texture[y : y + 540, x : x + 960]) for x, y in corners]


def options_of(name: str) -> TrackerOptions:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("evaluate", overrides=[f"tracker={name}"])).client.tracker


@pytest.fixture(params=NAMES)
def build(request: pytest.FixtureRequest) -> Callable[[], Tracker]:
    """Every shipped configuration of a tracker."""
    options = options_of(request.param)
    return lambda: build_tracker(options)


@pytest.fixture
def tracker(build: Callable[[], Tracker]) -> Tracker:
    return build()


def moved(frames: int) -> np.ndarray:
    return BOXES.boxes_xyxy + np.tile(frames * STEP, 2)


def test_boxes_follow_what_they_are_on_at_once_and_frame_by_frame(tracker: Tracker, views: list[RgbImage]) -> None:
    first, *later = map(tracker.prepare, views)
    tracker.restart(first, BOXES)
    at_once = tracker.advance(later)
    np.testing.assert_allclose(at_once.boxes_xyxy, moved(8), atol=1.5)
    tracker.restart(first, BOXES)
    for image in later:
        found = tracker.advance([image])
    np.testing.assert_allclose(found.boxes_xyxy, moved(8), atol=1.5)
    assert tracker.boxes is found


def test_locating_boxes_leaves_the_tracked_objects_alone(tracker: Tracker, views: list[RgbImage]) -> None:
    images = [tracker.prepare(view) for view in views]
    tracker.restart(images[0], BOXES)
    tracked = tracker.advance(images[1:3])
    located = tracker.locate(BOXES, images)
    np.testing.assert_allclose(located.boxes_xyxy, moved(8), atol=1.5)
    assert (located.labels.tolist(), located.scores.tolist()) == (BOXES.labels.tolist(), BOXES.scores.tolist())
    assert tracker.boxes is tracked
    np.testing.assert_allclose(tracker.advance(images[3:]).boxes_xyxy, moved(8), atol=1.5)


def test_locating_keeps_every_box(tracker: Tracker, views: list[RgbImage]) -> None:
    changed = np.random.default_rng(1).integers(0, 255, views[0].shape, np.uint8)
    first, other = tracker.prepare(views[0]), tracker.prepare(changed)
    assert len(tracker.locate(BOXES, [first, other])) == len(BOXES), "nothing in the other image is like the first"
    np.testing.assert_allclose(tracker.locate(BOXES, [first]).boxes_xyxy, BOXES.boxes_xyxy, atol=0.01)
    assert len(tracker.locate(Detections.empty(), [first, other])) == 0


def test_scores_and_labels_stay_with_their_boxes(tracker: Tracker, views: list[RgbImage]) -> None:
    first, *later = map(tracker.prepare, views)
    tracker.restart(first, BOXES)
    found = tracker.advance(later)
    assert found.labels.tolist() == BOXES.labels.tolist()
    assert found.scores.tolist() == BOXES.scores.tolist()


def test_a_restart_begins_at_any_earlier_frame(tracker: Tracker, views: list[RgbImage]) -> None:
    images = [tracker.prepare(view) for view in views]
    tracker.restart(images[0], BOXES)
    tracker.advance(images[1:])
    tracker.restart(images[3], BOXES)
    assert tracker.boxes is BOXES
    np.testing.assert_allclose(tracker.advance(images[4:7]).boxes_xyxy, moved(3), atol=1.5)


def test_frames_may_be_missing_in_between(tracker: Tracker, views: list[RgbImage]) -> None:
    """A full history drops every second frame (`FrameHistory`), and a busy tracker skips to the newest."""
    images = [tracker.prepare(view) for view in views]
    tracker.restart(images[0], BOXES)
    np.testing.assert_allclose(tracker.advance(images[2::2]).boxes_xyxy, moved(8), atol=1.5)


def test_one_instance_tracks_what_another_prepared(build: Callable[[], Tracker], views: list[RgbImage]) -> None:
    camera, tracker = build(), build()
    first, *later = map(camera.prepare, views)
    tracker.restart(first, BOXES)
    np.testing.assert_allclose(tracker.advance(later).boxes_xyxy, moved(8), atol=1.5)


def test_the_same_frames_give_the_same_boxes_to_the_bit(build: Callable[[], Tracker], views: list[RgbImage]) -> None:
    found = []
    for tracker in (build(), build()):
        first, *later = map(tracker.prepare, views)
        tracker.restart(first, BOXES)
        found.append(tracker.advance(later).boxes_xyxy.tobytes())
    assert found[0] == found[1]


def test_retention_and_confidence_count_what_is_still_tracked(tracker: Tracker, views: list[RgbImage]) -> None:
    first, *later = map(tracker.prepare, views)
    assert (tracker.objects, tracker.retention) == (0, 1.0)
    tracker.restart(first, BOXES)
    assert (tracker.objects, tracker.retention) == (3, 1.0)
    assert tracker.confidence.tolist() == [1.0] * 3
    tracker.advance(later)
    assert (tracker.objects, tracker.retention) == (3, 1.0)
    assert tracker.confidence.shape == (3,)
    assert (tracker.confidence > 0.9).all(), "everything stays in view and looks as before"


def test_a_box_that_leaves_the_frame_is_lost(tracker: Tracker, views: list[RgbImage]) -> None:
    images = [tracker.prepare(view) for view in reversed(views)]  # to the left, by 4 px a frame
    tracker.restart(images[0], Detections.of([[-10, 300, 20, 350], [300, 200, 380, 300]], [0.9, 0.8], [0, 2]))
    found = tracker.advance(images[1:])
    assert found.labels.tolist() == [2]
    assert tracker.retention == 0.5
    assert tracker.confidence.shape == (1,)


def test_something_else_in_place_of_an_object_takes_its_confidence(tracker: Tracker, views: list[RgbImage]) -> None:
    changed = views[0].copy()
    changed[190:310, 290:390] = np.random.default_rng(1).integers(0, 255, (120, 100, 3))
    first, image = tracker.prepare(views[0]), tracker.prepare(changed)
    tracker.restart(first, BOXES)
    found = tracker.advance([image])
    confidence = dict(zip(found.labels.tolist(), tracker.confidence.tolist(), strict=True))
    assert confidence.get(0, 0.0) < 0.5 < min(confidence[2], confidence[5])


def test_no_boxes_and_no_frames_are_valid(tracker: Tracker, views: list[RgbImage]) -> None:
    first, *later = map(tracker.prepare, views)
    tracker.restart(first, BOXES)
    assert tracker.advance([]) is BOXES, "a result of the newest frame: nothing to catch up with"
    tracker.restart(first, Detections.empty())
    assert len(tracker.advance(later)) == 0
    assert tracker.retention == 1.0


@pytest.mark.parametrize("boxes", [[[10, 10, 10, 10]], [[950, 530, 1000, 580]], [[0, 0, 960, 540]]])
def test_boxes_of_any_size_and_place_are_taken(tracker: Tracker, views: list[RgbImage], boxes: list) -> None:
    first, *later = map(tracker.prepare, views)
    tracker.restart(first, Detections.of(boxes, [0.9], [0]))
    assert np.isfinite(tracker.advance(later).boxes_xyxy).all()


@pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 16), (16, 200)])
def test_the_smallest_frames_are_taken(tracker: Tracker, width: int, height: int) -> None:
    draws = np.random.default_rng(0)
    first, *later = (tracker.prepare(draws.integers(0, 255, (height, width, 3), np.uint8)) for _ in range(3))
    tracker.restart(first, Detections.of([[2, 2, 12, 12]], [0.9], [0]))
    assert np.isfinite(tracker.advance(later).boxes_xyxy).all()


def test_every_tracker_has_a_configuration_with_the_defaults_of_the_library() -> None:
    assert set(NAMES) == set(TRACKERS)
    for name in NAMES:
        options = options_of(name)
        assert tracker_name(options) == name
        assert options == type(options)()


def test_options_survive_a_file() -> None:
    for name in NAMES:
        options = options_of(name)
        assert msgspec.json.decode(msgspec.json.encode(options), type=TrackerOptions) == options
