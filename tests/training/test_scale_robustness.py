"""What a detector finds in halved and in enlarged halved frames, with detectors whose boxes are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vitmalis.codec.offload import encode_offload
from vitmalis.offload import OffloadOutcome
from vitmalis.policy.base import ClientState
from vitmalis.policy.trackud import TrackUD
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.training.detection.scale_robustness import (
    detect_enlarged,
    detect_halved,
    own_box_f1,
    sent_at_half_size,
)


@pytest.fixture
def image() -> RgbImage:
    """101 x 75 px, grey with a bright rectangle."""
    found = np.full((75, 101, 3), 90, np.uint8)
    found[20:60, 40:80] = 220
    return found


def bright(image: RgbImage) -> Detections:
    """A detector of bright pixels: one box around them, of class 0 in wide images and of class 2 in small ones."""
    rows, columns = np.nonzero(image[..., 0] > 160)
    box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    return Detections.of(box, [0.9], [0 if image.shape[1] > 60 else 2])


def test_boxes_of_a_halved_frame_are_in_pixels_of_the_whole(image: RgbImage) -> None:
    found = detect_halved(bright, image)
    assert found.labels.tolist() == [2]
    # The frame is sent with 51 x 38 px, so a box of 20..40, 10..30 there is a little wider than twice as large.
    np.testing.assert_allclose(found.boxes_xyxy[0], [40, 20, 80, 60], atol=2)
    enlarged = detect_enlarged(bright, image)
    assert enlarged.labels.tolist() == [0]
    np.testing.assert_allclose(enlarged.boxes_xyxy[0], [40, 20, 80, 60], atol=2)


def test_a_halved_frame_is_the_one_that_trackud_sends(image: RgbImage) -> None:
    policy, grid = TrackUD(), RegionGrid(101, 75, window=5)
    state = ClientState(frame_index=1, grid=grid, frame_interval_s=0.04, time_s=0.04)
    slow = OffloadOutcome(0, policy.decide(state), 20_000, 0.01, 0.01, 0.3, 0.5, 0.05, e2e_latency_s=0.9)
    policy.observe(slow)
    decision = policy.decide(state)
    assert decision.frame_downsampling == 2
    jpeg = encode_offload(image, decision, grid).jpeg
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(sent_at_half_size(image), decoded)


def test_f1_against_the_own_boxes_by_hand() -> None:
    here, there, faint = [0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]
    own = [Detections.of([here, there, faint], [0.9, 0.8, 0.4], [0, 0, 0]), Detections.of([here], [0.9], [2])]
    found = [Detections.of([here, faint], [0.6, 0.7], [0, 0]), Detections.of([here], [0.9], [0])]
    # One match; shown for nothing: the faint one and the person on the car; missed: one person and the car.
    assert own_box_f1(found, own) == pytest.approx(2 / (2 + 2 + 2))
    assert own_box_f1(found, [Detections.empty()] * 2) is None
