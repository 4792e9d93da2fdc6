"""The shipped detectors keep the contract, and so does a class that has nothing but `detect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest

from vitmalis.codec.packing import pack, unpack
from vitmalis.detector import BaseDetector, load_any_detector, model_config
from vitmalis.errors import UserError
from vitmalis.regions import ModelGeometry
from vitmalis.testing import DetectorContract
from vitmalis.testing.detector_contract import assert_equal
from vitmalis.types import Detections

TINY: dict[str, Any] = {"boxes": {}, "window 3": {"window": 3}, "masks": {"task": "instances"}}


class Bright(BaseDetector):
    """Finds bright things, whatever they are."""

    def __init__(self, threshold: int = 200, window: int = 5) -> None:
        self._threshold, self.geometry = threshold, ModelGeometry(window, 2, 16, 0)

    def detect(self, image: Any) -> Detections:
        bright = (image.min(axis=2) >= self._threshold).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        stats = stats[1:][np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")]
        corners = stats[:, :2]
        areas = stats[:, cv2.CC_STAT_AREA]
        return Detections.of(
            np.hstack([corners, corners + stats[:, 2:4]]), areas / image[..., 0].size, np.zeros(len(areas))
        )


class TestBuiltIn(DetectorContract):
    @pytest.fixture(params=TINY)
    def build(self, request: pytest.FixtureRequest) -> Callable[[], BaseDetector]:
        """The embedded model, the same with other regions, and with masks."""
        return partial(load_any_detector, "vitdet_tiny", **TINY[request.param])


class TestBright(DetectorContract):
    make = Bright


def test_results_are_equal_with_the_masks_of_their_boxes_only() -> None:
    """Two boxes of one score, in either order: the left half of the one is an object, and all of the other."""
    masks = np.full((2, 28, 28), 255, np.uint8)
    masks[0, :, 14:] = 0
    found = Detections.of([[0, 0, 9, 9], [20, 0, 29, 9]], [0.5, 0.5], [0, 0], masks)
    assert_equal(found.select(np.array([1, 0])), found)
    for other in (replace(found, masks=masks[::-1]), replace(found, masks=None)):
        with pytest.raises(AssertionError, match="masks"):
            assert_equal(found, other)


def test_regions_of_low_resolution_are_enlarged_for_a_class_that_sees_whole_images() -> None:
    """A white square in a black frame: a quarter of its edge blurs where its region is low, and nothing elsewhere."""
    image = np.zeros((320, 480, 3), np.uint8)
    image[20:60, 20:60] = 255
    image[180:220, 340:380] = 255
    detector = Bright(threshold=255)
    grid = detector.geometry.grid(480, 320)
    mask = np.zeros(grid.shape, bool)
    mask[0, 0] = True  # (0, 0) to (160, 160)
    patches = unpack(pack(image, grid, mask), grid, mask)
    found = detector.detect_patches(patches, (320, 480), mask, 0)
    assert found.boxes_xyxy.tolist() == [[340, 180, 380, 220], [21, 21, 59, 59]]


def test_a_class_is_built_once_and_its_identity_changes_with_its_options() -> None:
    target = f"{__name__}.Bright"
    options: dict[str, Any] = {"source": "custom", "target": target}
    first = load_any_detector("mine", **options)
    assert load_any_detector("mine", **options, options={}) is first
    other = load_any_detector("mine", **options, options={"threshold": 100})
    assert (first.name, len(first.model_id)) == ("mine", 12)
    assert other.model_id != first.model_id
    assert model_config("mine", **options, options={"window": 3}).geometry == ModelGeometry(3, 2, 16, 0)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("Bright", {}, "model 'Bright' is unknown: name a class of your own, such as _target_: mypackage.Bright"),
        (f"{__name__}.Brigt", {}, "did you mean Bright?"),
        ("vitmalis.policy.Policy", {}, "is no subclass of vitmalis.detector.base_detector.BaseDetector"),
        (f"{__name__}.Bright", {"treshold": 1}, "got an unexpected keyword argument 'treshold'"),
        (f"{__name__}.Bright", {"threshold": "high"}, "threshold=high: Expected `int`"),
        (f"{__name__}.Bright", {"window": 0}, "model 'mine' .* geometry=.*Expected `int` >= 1"),
    ],
)
def test_a_class_that_cannot_be_used_is_one_line(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_any_detector("mine", source="custom", target=target, options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"task": "instances"}, "model.task=instances: whether 'mine' finds masks is for its class"),
        ({"weights": "best.pt"}, "model 'mine' is a class .*, which has no option weights=best.pt but its own"),
        ({"window": 9}, "no option window=9"),
        ({"compiled": True}, "no option compiled=True"),
        ({"config": "vitdet.py"}, "source=custom and model.config=vitdet.py do not go together"),
    ],
)
def test_options_of_other_models_are_refused_for_a_class(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_any_detector("mine", source="custom", target=f"{__name__}.Bright", **option)
