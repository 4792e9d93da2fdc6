"""Contract of all detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from vitmalis.codec.packing import pack, unpack
from vitmalis.detector.base_detector import BaseDetector
from vitmalis.instance_masks import MASK_THRESHOLD, quantized
from vitmalis.types import COCO_CLASSES, BoolMask, Detections, RgbImage
from vitmalis.video.standin.scene import StreetScene

SIZE = (480, 288)
"""Size (width, height) of the frames in pixels."""


@cache
def _frames() -> list[RgbImage]:
    scene = StreetScene("walkS", 1001, *SIZE)
    return [scene.render(index)[0] for index in (0, 30)]


def assert_valid(found: Detections, image: RgbImage) -> None:
    """Assert that boxes are inside an image, best first, scores probabilities, labels COCO's, and masks quantised."""
    height, width = image.shape[:2]
    boxes = found.boxes_xyxy
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all(), "boxes are in pixels of the image, and end at its border"
    assert (boxes[:, 2:] >= boxes[:, :2]).all(), "a box is x1, y1, x2, y2"
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all(), "the best box comes first"
    assert ((found.labels >= 0) & (found.labels < len(COCO_CLASSES))).all(), "a label is an index into COCO_CLASSES"
    if found.masks is not None:
        levels = quantized(found.masks.astype(np.float32) / 255)
        np.testing.assert_array_equal(found.masks, levels, "make masks with vitmalis.instance_masks.quantized")


def assert_equal(found: Detections, expected: Detections, tolerance_px: float = 0.1) -> None:
    """Assert that two results are the same up to rounding, which may exchange boxes of equal score.

    Their masks agree in all but 1 % of the pixels.
    """
    assert len(found) == len(expected)
    own, other = (np.lexsort((*each.boxes_xyxy.round().T, each.labels)) for each in (found, expected))
    assert found.labels[own].tolist() == expected.labels[other].tolist()
    np.testing.assert_allclose(found.boxes_xyxy[own], expected.boxes_xyxy[other], atol=tolerance_px)
    np.testing.assert_allclose(found.scores[own], expected.scores[other], atol=0.01)
    assert (found.masks is None) == (expected.masks is None), "masks come with every way of detecting, or with none"
    if len(found) and found.masks is not None and expected.masks is not None:
        on, wanted = found.masks[own] >= MASK_THRESHOLD, expected.masks[other] >= MASK_THRESHOLD
        assert np.mean(on != wanted) <= 0.01, "masks belong to their boxes"


class DetectorContract:
    """Tests of a detector; see `vitmalis.testing`."""

    make: Callable[[], BaseDetector]

    @pytest.fixture
    def build(self) -> Callable[[], BaseDetector]:
        """Build an instance of the detector."""
        return self.make

    @pytest.fixture
    def detector(self, build: Callable[[], BaseDetector]) -> BaseDetector:
        """Build a detector."""
        return build()

    @pytest.fixture
    def frames(self) -> list[RgbImage]:
        """Frames of one size with objects: a rendered street. Override it for a model that knows other objects."""
        return [frame.copy() for frame in _frames()]

    def test_boxes_are_inside_the_frame_and_best_first(self, detector: BaseDetector, frames: list[RgbImage]) -> None:
        """Labels and scores are what trackers, policies and scores take them for."""
        found = [detector.detect(frame) for frame in frames]
        for frame, detections in zip(frames, found, strict=True):
            assert_valid(detections, frame)
        assert any(len(detections) for detections in found), "nothing is found: override the fixture `frames`"

    def test_the_same_frame_gives_the_same_boxes_to_the_bit(
        self, build: Callable[[], BaseDetector], frames: list[RgbImage]
    ) -> None:
        """References are computed once, and runs on the virtual clock can be repeated."""
        detector = build()
        first, _, again, other = (
            detector.detect(frames[0]),
            detector.detect(frames[1]),
            detector.detect(frames[0]),
            build().detect(frames[0]),
        )
        for found in (again, other):
            assert found.boxes_xyxy.tobytes() == first.boxes_xyxy.tobytes()
            assert found.scores.tobytes() == first.scores.tobytes()
            assert found.labels.tobytes() == first.labels.tobytes()
            assert found.masks_or_boxes.tobytes() == first.masks_or_boxes.tobytes()

    def test_it_leaves_the_frame_as_it_is(self, detector: BaseDetector, frames: list[RgbImage]) -> None:
        """Frames of a decoded clip are shared, and read-only."""
        before = frames[0].copy()
        frames[0].flags.writeable = False
        detector.detect(frames[0])
        np.testing.assert_array_equal(frames[0], before)

    @pytest.mark.parametrize(("width", "height"), [(16, 16), (99, 61), (40, 200)])
    def test_frames_of_any_size_are_taken(self, detector: BaseDetector, width: int, height: int) -> None:
        """A frame may be a single patch, and no side a multiple of anything."""
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        assert_valid(detector.detect(frame), frame)

    def test_several_frames_give_what_each_gives_alone(self, detector: BaseDetector, frames: list[RgbImage]) -> None:
        """A server may put frames of several clients into one batch."""
        together = detector.detect_each(frames)
        assert len(together) == len(frames)
        for frame, found in zip(frames, together, strict=True):
            assert_equal(found, detector.detect(frame))

    def test_a_mask_without_regions_changes_nothing(self, detector: BaseDetector, frames: list[RgbImage]) -> None:
        """Patches of full resolution are the frame."""
        mask = self._mask(detector, frames[0], low=0)
        assert_equal(self._masked(detector, frames[:1], [mask], 0)[0], detector.detect(frames[0]))

    def test_every_restoration_point_gives_boxes_in_the_frame(
        self, detector: BaseDetector, frames: list[RgbImage]
    ) -> None:
        """Half of the regions are low; boxes are in pixels of the frame all the same."""
        mask = self._mask(detector, frames[0], low=2)
        for point in range(detector.geometry.restoration_points + 1):
            (found,) = self._masked(detector, frames[:1], [mask], point)
            assert_valid(found, frames[0])

    def test_several_masked_frames_give_what_each_gives_alone(
        self, detector: BaseDetector, frames: list[RgbImage]
    ) -> None:
        """Frames of one batch have equally many tokens."""
        mask = self._mask(detector, frames[0], low=2)
        point = detector.geometry.restoration_points
        alone = [self._masked(detector, [frame], [mask], point)[0] for frame in frames]
        patches = [self._patches(detector, frame, mask) for frame in frames]
        together = detector.detect_patches_each(patches, frames[0].shape[:2], [mask] * len(frames), point)
        for found, expected in zip(together, alone, strict=True):
            assert_equal(found, expected)

    @staticmethod
    def _mask(detector: BaseDetector, frame: RgbImage, low: int) -> BoolMask:
        """Every `low`-th region at low resolution, none for 0."""
        height, width = frame.shape[:2]
        regions = np.arange(detector.geometry.grid(width, height).region_patches.size)
        chosen = regions % low == 0 if low else regions < 0
        return np.asarray(chosen.reshape(detector.geometry.grid(width, height).shape))

    @staticmethod
    def _patches(detector: BaseDetector, frame: RgbImage, mask: BoolMask) -> RgbImage:
        height, width = frame.shape[:2]
        grid = detector.geometry.grid(width, height)
        return unpack(pack(frame, grid, mask), grid, mask)

    def _masked(
        self, detector: BaseDetector, frames: Sequence[RgbImage], masks: Sequence[BoolMask], point: int
    ) -> list[Detections]:
        return [
            detector.detect_patches(self._patches(detector, frame, mask), frame.shape[:2], mask, point)
            for frame, mask in zip(frames, masks, strict=True)
        ]
