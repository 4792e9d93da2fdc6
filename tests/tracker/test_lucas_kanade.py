from __future__ import annotations

import cv2
import numpy as np
import pytest

from vitmalis.tracker import LucasKanadeOptions, LucasKanadeTracker
from vitmalis.tracker.box_motion import grid_points, move_boxes, visible_share
from vitmalis.types import Detections, RgbImage


@pytest.fixture(scope="module")
def texture() -> RgbImage:
    noise = np.random.default_rng(0).integers(0, 255, (700, 1200, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


def view(texture: RgbImage, dx: int, dy: int) -> RgbImage:
    return np.ascontiguousarray(texture[100 + dy : 640 + dy, 100 + dx : 1060 + dx])


BOXES = Detections.of([[300, 200, 380, 300], [500, 100, 540, 160], [20, 300, 90, 350]], [0.9, 0.8, 0.7], [0, 2, 5])


def test_boxes_follow_a_moving_texture(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker()
    tracker.restart(tracker.prepare(view(texture, 0, 0)), BOXES)
    for k in range(1, 6):
        tracked = tracker.step(tracker.prepare(view(texture, -4 * k, -2 * k)))
    assert np.array_equal(tracked.labels, BOXES.labels)
    np.testing.assert_allclose(tracked.boxes_xyxy, BOXES.boxes_xyxy + np.asarray([20, 10, 20, 10]), atol=1.5)
    assert tracker.retention == 1.0


def test_boxes_grow_with_a_zoom(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker()
    image = view(texture, 0, 0)
    height, width = image.shape[:2]
    box = Detections.of([[430, 220, 530, 320]], [0.9], [2])
    tracker.restart(tracker.prepare(image), box)
    for zoom in (1.03, 1.06, 1.09):
        matrix = np.asarray([[zoom, 0, (1 - zoom) * width / 2], [0, zoom, (1 - zoom) * height / 2]])
        tracked = tracker.step(tracker.prepare(cv2.warpAffine(image, matrix, (width, height))))
    side = tracked.boxes_xyxy[0, 2:] - tracked.boxes_xyxy[0, :2]
    np.testing.assert_allclose(side, 109, atol=2.5)


def test_objects_that_vanish_are_dropped_and_lower_the_retention(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker()
    tracker.restart(tracker.prepare(view(texture, 0, 0)), BOXES)
    changed = view(texture, 0, 0)
    changed[190:310, 290:390] = np.random.default_rng(1).integers(0, 255, (120, 100, 3))
    tracked = tracker.step(tracker.prepare(changed))
    assert tracked.labels.tolist() == [2, 5]
    assert tracker.retention == pytest.approx(2 / 3)


def test_box_that_leaves_the_frame_is_dropped(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker()
    tracker.restart(tracker.prepare(view(texture, 0, 0)), BOXES)
    for k in range(1, 9):
        tracked = tracker.step(tracker.prepare(view(texture, 10 * k, 0)))
    assert tracked.labels.tolist() == [0, 2]  # the third box was 20 px from the left edge


def test_no_boxes_is_a_valid_result(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker()
    tracker.restart(tracker.prepare(view(texture, 0, 0)), Detections.empty())
    assert len(tracker.step(tracker.prepare(view(texture, 4, 0)))) == 0
    assert tracker.retention == 1.0


def test_grid_points_by_hand() -> None:
    points = grid_points(np.asarray([[0, 0, 10, 20]], np.float32), grid=2, coverage=0.5)
    assert points[0].tolist() == [[2.5, 5], [7.5, 5], [2.5, 15], [7.5, 15]]


def test_move_boxes_by_hand_ignores_bad_points() -> None:
    box = np.asarray([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    points = np.asarray([[[2, 2], [8, 2], [2, 8], [8, 8]]] * 2, np.float32)
    points[1] += 50
    moved = points.copy()
    moved[0] = (points[0] - 5) * 2 + 5 + [3, -1]  # twice as large, shifted by (3, -1)
    moved[0, 3] = [999, 999]
    good = np.asarray([[True, True, True, False], [False] * 4])
    result = move_boxes(box, points, moved, good)
    # The shift is the median over the three good corners: x of (0, 6, 0), y of (-4, -4, 2).
    np.testing.assert_allclose(result[0], [5 + 0 - 10, 5 - 4 - 10, 5 + 0 + 10, 5 - 4 + 10])
    np.testing.assert_allclose(result[1], box[1])


def test_visible_share_by_hand() -> None:
    shares = visible_share(np.asarray([[-5, 0, 5, 10], [20, 20, 30, 30], [0, 0, 4, 4]], np.float32), (10, 10))
    np.testing.assert_allclose(shares, [0.5, 0.0, 1.0])


def test_prepared_images_have_the_tracker_s_scale(texture: RgbImage) -> None:
    small = LucasKanadeTracker(LucasKanadeOptions(scale=0.25)).prepare(texture)
    assert small.grey.shape == (175, 300)
    assert small.grey.dtype == np.uint8
    assert small.scale == 0.25


def test_large_frames_are_reduced_until_they_fit_and_boxes_stay_in_captured_pixels(texture: RgbImage) -> None:
    tracker = LucasKanadeTracker(LucasKanadeOptions(max_pixels=240 * 135))  # of 960x540, half of the side is too much
    first = tracker.prepare(view(texture, 0, 0))
    assert first.grey.shape == (135, 240)
    assert first.scale == 0.25
    tracker.restart(first, BOXES)
    tracked = tracker.step(tracker.prepare(view(texture, -8, -4)))
    np.testing.assert_allclose(tracked.boxes_xyxy, BOXES.boxes_xyxy + np.asarray([8, 4, 8, 4]), atol=1.5)


def test_windows_and_pyramids_in_an_image_that_is_reduced_further_are_as_large_in_the_frame() -> None:
    options = LucasKanadeOptions(scale=0.5, window_px=11, max_return_error_px=1.0, levels=3)
    assert options.at(0.5) is options
    third = options.at(1 / 3)
    assert (third.window_px, third.levels) == (7, 2)  # 7.3, to an odd number, and log2(2 / 3) = -0.6 levels
    assert third.max_return_error_px == pytest.approx(2 / 3)
    tiny = options.at(0.02)
    assert (tiny.window_px, tiny.levels) == (3, 0)
