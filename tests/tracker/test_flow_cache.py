from __future__ import annotations

import numpy as np
import pytest

from vitmalis.tracker import FlowCacheOptions, FlowCacheTracker
from vitmalis.tracker.flow_cache import compose, refine
from vitmalis.types import Detections, RgbImage

OPTIONS = FlowCacheOptions(flow_scale=0.5)


def flow_of(function) -> np.ndarray:  # type: ignore[no-untyped-def]
    """A flow of 100 x 60 pixels from a function of x and y."""
    y, x = np.mgrid[:60, :100].astype(np.float32)
    return np.stack(np.broadcast_arrays(*function(x, y)), axis=-1).astype(np.float32)


def test_shifts_add_up_in_pixels_of_the_grey_image() -> None:
    flows = [flow_of(lambda x, y: (x * 0 + 1.5, y * 0 - 0.5))] * 4
    found = compose(flows, np.array([[40, 60, 60, 80]], np.float32), OPTIONS)
    # Four times (1.5, -0.5) pixels of the flow, each of which is two of the grey image.
    np.testing.assert_allclose(found, [[52, 56, 72, 76]], atol=1e-4)


def test_a_zoom_grows_a_box_around_its_own_centre() -> None:
    # Everything moves away from the flow's pixel (25, 35) by a tenth of its distance; the box is centred there.
    flow = flow_of(lambda x, y: (0.1 * (x - 25), 0.1 * (y - 35)))
    found = compose([flow], np.array([[30, 50, 70, 90]], np.float32), FlowCacheOptions(coverage=0.8))
    np.testing.assert_allclose(found, [[28, 48, 72, 92]], atol=1e-4)  # points at whole pixels: exact


def test_the_background_inside_a_box_does_not_move_it() -> None:
    # A third of the width of the box stands still; the median is the object's motion.
    flow = flow_of(lambda x, y: (np.where(x < 22, 0, 3), 0 * y))
    found = compose([flow], np.array([[30, 50, 70, 90]], np.float32), OPTIONS)
    assert (found[0, 0] + found[0, 2]) / 2 == pytest.approx(50 + 6)


@pytest.fixture(scope="module")
def textures() -> tuple[np.ndarray, np.ndarray]:
    """A grey texture, and the same moved by (3, -2)."""
    coarse = np.random.default_rng(0).integers(0, 255, (60, 90), np.uint8)
    texture = np.asarray(coarse.repeat(4, 0).repeat(4, 1))
    return texture[20:200, 20:300].copy(), texture[22:202, 17:297].copy()


def test_drift_is_taken_back_where_points_return(textures: tuple[np.ndarray, np.ndarray]) -> None:
    before, after = textures
    box = np.array([[80, 60, 140, 120]], np.float32)
    drifted = box + np.array([3, -2, 3, -2], np.float32) + 1.5
    found, confidence = refine(before, after, box, drifted, OPTIONS)
    np.testing.assert_allclose(found, box + np.array([3, -2, 3, -2]), atol=0.3)
    assert confidence[0] > 0.7


def test_a_box_without_points_that_return_stays_where_the_flows_put_it(textures: tuple[np.ndarray, np.ndarray]) -> None:
    before, _ = textures
    noise = np.random.default_rng(1).integers(0, 255, before.shape, np.uint8)
    drifted = np.array([[85, 60, 145, 120]], np.float32)
    options = FlowCacheOptions(min_points=26)  # more than there are
    found, confidence = refine(before, noise, drifted - 3, drifted, options)
    np.testing.assert_array_equal(found, drifted)
    assert confidence[0] < 0.5


def test_cached_flows_are_used_and_missing_ones_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    images: list[RgbImage] = [rng.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(5)]
    tracker, computed = FlowCacheTracker(), []
    real = FlowCacheTracker._flow
    monkeypatch.setattr(FlowCacheTracker, "_flow", lambda self, a, b: computed.append(1) or real(self, a, b))
    prepared = [tracker.prepare(image) for image in images]
    assert len(computed) == 4, "one for each frame but the first"
    tracker.restart(prepared[0], Detections.of([[20, 20, 80, 80]], [0.9], [0]))
    tracker.advance(prepared[1:3])
    assert len(computed) == 4
    tracker.advance(prepared[4:])  # the flow to frame 4 is from frame 3
    assert len(computed) == 5


def test_boxes_in_frames_that_are_reduced_further_stay_in_captured_pixels() -> None:
    coarse = np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8)
    texture = np.asarray(coarse.repeat(16, 0).repeat(16, 1))
    tracker = FlowCacheTracker(FlowCacheOptions(max_pixels=200 * 135))
    first, second = (tracker.prepare(texture[50:590, left : left + 800].copy()) for left in (60, 44))
    assert second.scale == 0.25
    assert second.grey.shape == (135, 200)
    boxes = Detections.of([[200, 150, 400, 350]], [0.9], [0])
    tracker.restart(first, boxes)
    np.testing.assert_allclose(tracker.advance([second]).boxes_xyxy, [[216, 150, 416, 350]], atol=1.5)


@pytest.mark.parametrize("size", [(16, 16), (7680, 16), (16, 4000), (3841, 2161)])
@pytest.mark.parametrize("options", [FlowCacheOptions(), FlowCacheOptions(max_pixels=1), FlowCacheOptions(scale=0.05)])
def test_frames_of_any_size_are_followed(size: tuple[int, int], options: FlowCacheOptions) -> None:
    width, height = size
    tracker, image = FlowCacheTracker(options), np.zeros((height, width, 3), np.uint8)
    first, second = tracker.prepare(image), tracker.prepare(image)
    boxes = Detections.of([[2, 2, 12, 12]], [0.9], [0])
    tracker.restart(first, boxes)
    tracker.advance([second])
    np.testing.assert_allclose(tracker.locate(boxes, [first, second]).boxes_xyxy, boxes.boxes_xyxy, atol=1e-3)
