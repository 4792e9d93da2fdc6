"""Our head on timm's real transformers, from an image to boxes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vitmalis.codec.packing import pack, unpack
from vitmalis.detector import load_detector, model_config, save_checkpoint
from vitmalis.detector.detector import Detector
from vitmalis.detector.timm_detector import timm_detector
from vitmalis.errors import UserError
from vitmalis.regions.grid import ModelGeometry

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(NAME, source="timm", window=2)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (130, 190, 3), np.uint8)


def test_geometry_is_the_adapters(detector: Detector) -> None:
    """12 blocks, all global, fall into 4 subsets."""
    assert detector.geometry == ModelGeometry(window=2, factor=2, patch_px=16, restoration_points=4)
    assert model_config(NAME, source="timm").geometry.window == 9
    assert detector.config.pixel_mean == pytest.approx((127.5, 127.5, 127.5))


@pytest.mark.parametrize("point", range(5))
def test_an_image_becomes_boxes_at_mixed_resolution(detector: Detector, image: np.ndarray, point: int) -> None:
    grid = detector.geometry.grid(190, 130)
    mask = np.arange(9).reshape(grid.shape) % 2 == 0
    found = detector.detect_patches(unpack(pack(image, grid, mask), grid, mask), (130, 190), mask, point)
    assert np.isfinite(found.boxes_xyxy).all()
    assert (found.boxes_xyxy <= [190, 130, 190, 130]).all()
    plain, empty = detector.detect(image), detector.detect(image, np.zeros(grid.shape, bool), point)
    assert np.array_equal(plain.boxes_xyxy, empty.boxes_xyxy)


def test_random_weights_are_the_same_in_every_process(detector: Detector, image: np.ndarray) -> None:
    again = load_detector(NAME, source="timm", window=2)
    assert again.model_id == detector.model_id
    assert np.array_equal(again.detect(image).boxes_xyxy, detector.detect(image).boxes_xyxy)
    assert load_detector(NAME, source="timm").model_id != detector.model_id


def test_a_trained_detector_has_its_own_identity(detector: Detector, image: np.ndarray, tmp_path: Path) -> None:
    model = timm_detector(NAME, window=2)
    model.head.classification_head.cls_logits.bias.data += 1
    save_checkpoint(model, tmp_path / "trained.pt", {})
    trained = load_detector(NAME, source="timm", window=2, weights=tmp_path / "trained.pt")
    assert trained.model_id != detector.model_id
    assert not np.array_equal(trained.detect(image).scores, detector.detect(image).scores)
    with pytest.raises(UserError, match="do not fit this model"):
        load_detector("vit_small_patch16_224", source="timm", weights=tmp_path / "trained.pt")


def test_a_users_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"model\.name=vit_enormous: timm has no such model"):
        load_detector("vit_enormous", source="timm")
    with pytest.raises(UserError, match="HybridEmbed"):
        load_detector("vit_small_r26_s32_224", source="timm")
    with pytest.raises(UserError, match="give a file for models of timm, not a URL"):
        load_detector(NAME, source="timm", weights="https://example.org/x.pt")
    with pytest.raises(UserError, match="is another library's and cannot be compiled"):
        load_detector(NAME, source="timm", compiled=True)
    with pytest.raises(UserError, match="is another library's and cannot multiply in int8; use precision=bf16"):
        load_detector(NAME, source="timm", precision="int8")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm, which cannot.*pip install 'vitmalis\[timm\]'"):
        load_detector("vit_base_patch16_224", source="timm")
