"""The fast path as a detector: the boxes of the eager one, bounded buffers, and what runs eagerly instead.

On a CPU the eager transformer takes the place of the backbone's kernels, which have tests of their own, except in one
slow test.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tests.detector.fused.fused_models import CONFIGS, FCOS, small_model
from tests.detector.fused.reference_backbone import ReferenceBackbone, ReferenceWeights
from tests.detector.test_upstream import build_golden, unpaired
from vitmalis.detector.build import build_model
from vitmalis.detector.config import MaskConfig
from vitmalis.detector.detector import Detector
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fused import batches
from vitmalis.detector.fused import engine as engine_module
from vitmalis.detector.fused.engine import MAX_FRAME_SIZES, FusedDetector
from vitmalis.detector.rcnn import RcnnDetector
from vitmalis.errors import UserError
from vitmalis.types import BoolMask, Detections

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = (150, 190)


@pytest.fixture(autouse=True)
def backbone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone of `tests.detector.fused.reference_backbone` on a CPU, but not for slow tests."""
    if DEVICE == "cpu" and "slow" not in request.keywords:
        monkeypatch.setattr(engine_module, "FusedBackbone", ReferenceBackbone)
        monkeypatch.setattr(engine_module, "FusedWeights", ReferenceWeights)


def with_task_of_instances(head: str) -> RcnnDetector | FcosDetector:
    """The small model of a head with a mask head besides."""
    config, boxes_only = CONFIGS[head], small_model(head)
    torch.manual_seed(1)
    model = build_model(msgspec.structs.replace(config, mask_head=MaskConfig(convs=(16,))))
    assert isinstance(model, RcnnDetector | FcosDetector)
    model.load_state_dict(boxes_only.state_dict(), strict=False)
    return model.eval().requires_grad_(False)


def detectors(head: str) -> tuple[Detector, FusedDetector]:
    return (
        Detector(small_model(head), weights_sha256="0", device=DEVICE),
        FusedDetector(small_model(head), weights_sha256="0", device=DEVICE),
    )


def images(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8))


def masks(count: int, size: tuple[int, int] = SIZE) -> list[BoolMask]:
    """Masks with as many regions of each shape, other ones in each: half of the whole regions."""
    shape = FCOS.region_grid(*size).shape
    whole = [(row, col) for row in range(shape[0] - 1) for col in range(shape[1] - 1)]
    found = []
    for index in range(count):
        mask = np.zeros(shape, np.bool_)
        for row, col in np.random.default_rng(index).permutation(whole)[: len(whole) // 2]:
            mask[row, col] = True
        found.append(mask)
    return found


def patches(mask: BoolMask, seed: int = 0) -> np.ndarray:
    tokens = FCOS.region_grid(*SIZE).tokens(mask)
    return np.random.default_rng(seed).integers(0, 256, (tokens, 16, 16, 3), np.uint8)


def assert_same(ours: Detections, theirs: Detections) -> None:
    assert len(ours) == len(theirs) > 3
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-2)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("head", CONFIGS)
def test_images_and_patches_find_the_boxes_of_the_eager_engine(head: str) -> None:
    eager, fused = detectors(head)
    (image,), (mask,) = images(1), masks(1)
    assert (eager.engine, fused.engine) == ("eager", "fused")
    assert eager.model_id == fused.model_id
    assert_same(fused.detect(image), eager.detect(image))
    for point in (0, 3):
        own = patches(mask, point)
        assert_same(fused.detect_patches(own, SIZE, mask, point), eager.detect_patches(own, SIZE, mask, point))
    nothing_low = np.zeros_like(mask)
    own = patches(nothing_low)
    assert_same(fused.detect_patches(own, SIZE, nothing_low, 2), eager.detect_patches(own, SIZE, nothing_low, 2))


@pytest.mark.parametrize("head", CONFIGS)
def test_masks_are_those_of_the_eager_engine(head: str) -> None:
    eager, fused = (
        kind(with_task_of_instances(head), weights_sha256="0", device=DEVICE) for kind in (Detector, FusedDetector)
    )
    mask = masks(1)[0]
    own = patches(mask)
    ours, theirs = (detector.detect_patches(own, SIZE, mask, 2) for detector in (fused, eager))
    assert_same(ours, theirs)
    assert ours.masks is not None
    assert theirs.masks is not None
    assert len(np.unique(ours.masks)) > 1
    assert (np.abs(ours.masks.astype(int) - theirs.masks) <= 17).mean() > 0.99  # rounding may cross a level


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_kernels_find_the_boxes_of_the_eager_engine() -> None:
    eager, fused = detectors("fcos")
    (mask,) = masks(1)
    assert_same(fused.detect_patches(patches(mask), SIZE, mask, 3), eager.detect_patches(patches(mask), SIZE, mask, 3))


def test_an_image_with_low_regions() -> None:
    eager, fused = detectors("fcos")
    (image,), (mask,) = images(1), masks(1)
    assert_same(fused.detect(image, mask, 2), eager.detect(image, mask, 2))


def test_batches_of_other_masks_and_sizes_one_after_the_other() -> None:
    """One graph serves other masks and bytes; a larger batch than before gets larger buffers."""
    eager, fused = detectors("fcos")
    for count in (1, 2):
        own = masks(count)
        pixels = [patches(mask, index) for index, mask in enumerate(own)]
        found, expected = (x.detect_patches_each(pixels, SIZE, own, 2) for x in (fused, eager))
        for ours, theirs in zip(found, expected, strict=True):
            assert_same(ours, theirs)
    for ours, theirs in zip(fused.detect_each(images(2)), eager.detect_each(images(2)), strict=True):
        assert_same(ours, theirs)


def test_buffers_of_frame_sizes_are_bounded() -> None:
    _, fused = detectors("fcos")
    sizes = [(64 + 16 * index, 128) for index in range(MAX_FRAME_SIZES + 1)]
    for size in sizes:
        fused.detect(images(1, size)[0])
    assert list(fused._sizes) == sizes[1:]
    assert len(fused._graphs) == MAX_FRAME_SIZES


@pytest.mark.parametrize("launch_tokens", [0, 1e6])
@pytest.mark.parametrize("head", CONFIGS)
def test_frames_of_any_masks_make_a_batch(head: str, launch_tokens: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and many low regions, none, and few again: one launch for the mixed frames where padding costs nothing."""
    eager, fused = detectors(head)
    monkeypatch.setattr(batches, "LAUNCH_FLOPS", launch_tokens * fused._padding_flops(2))
    few, many = np.zeros_like(masks(1)[0]), np.ones_like(masks(1)[0])
    few[0, 0], many[0, 0] = True, False
    own = [few, many, np.zeros_like(few), np.roll(few, 1, axis=1)]
    pixels = [patches(mask, index) for index, mask in enumerate(own)]
    assert fused.batches_any_masks
    together = fused.detect_patches_each(pixels, SIZE, own, 2)
    for ours, part, mask in zip(together, pixels, own, strict=True):
        assert_same(ours, eager.detect_patches(part, SIZE, mask, 2))
    assert len(fused._graphs) == (2 if launch_tokens else 3)


def test_frames_that_were_prepared_for_need_no_new_launches() -> None:
    """Two regions: numbers of tokens in two buckets at five restoration points, and plain frames, alone or in twos."""
    _, fused = detectors("fcos")
    size = (64, 128)
    steps = fused.preparations(size, max_batch=2)
    assert len(steps) == 2 * (1 + 2 * 5)
    for step in steps:
        step()
    assert len(fused._graphs) == len(steps)
    assert fused.preparations(size, max_batch=2) == []
    buffers = fused._sizes[size]
    grid = fused.geometry.grid(128, 64)
    own = [np.array([[True, False]]), np.array([[True, True]])]
    pixels = [np.full((grid.tokens(mask), 16, 16, 3), 9, np.uint8) for mask in own]
    for point in range(5):
        fused.detect_patches_each(pixels, size, own, point)
        fused.detect_patches(pixels[0], size, own[0], point)
    fused.detect_each(images(2, size))
    assert len(fused._graphs) == len(steps)
    assert fused._sizes[size] is buffers


def test_preparations_leave_other_frame_sizes_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_GRAPHS", 3)
    _, fused = detectors("fcos")
    fused.detect(images(1, (80, 128))[0])
    steps = fused.preparations((64, 128), max_batch=1)
    assert len(steps) == 2
    for step in steps:
        step()
    assert fused.preparations((96, 128), max_batch=1) == []
    assert [size for size, *_ in fused._graphs._replays] == [(80, 128), (64, 128), (64, 128)]
    for height in range(112, 112 + 16 * (MAX_FRAME_SIZES - 3), 16):
        fused._frame_size(fused.config.region_grid(height, 128), 1)
    monkeypatch.setattr(fused._graphs, "_capacity", 100)
    before = list(fused._sizes)
    assert len(before) == MAX_FRAME_SIZES
    assert fused.preparations((32, 128), max_batch=1) == []
    assert list(fused._sizes) == before


def test_all_kernels_run_with_the_detectors_gpu_as_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the head, too: Triton launches on the current device, whichever holds the tensors."""
    _, fused = detectors("rcnn")
    log: list[str] = []

    @contextmanager
    def noted(device: torch.device) -> Iterator[None]:
        log.append(f"in {device}")
        yield
        log.append("out")

    head = fused._head
    monkeypatch.setattr(engine_module, "on_device", noted)
    monkeypatch.setattr(fused, "_head", lambda *given: log.append("head") or head(*given))
    fused.detect(images(1)[0])
    assert log == [f"in {fused.device}", "head", "out"]


def test_what_runs_eagerly_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    eager, fused = detectors("fcos")
    (image,) = images(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found, _ = fused.detect_cached(image, SIZE, None, 1)
    assert caplog.messages == ["small_fcos: frames whose tokens are cached run eagerly"]
    assert_same(found, eager.detect(image))


def test_mistakes_are_those_of_the_eager_engine() -> None:
    _, fused = detectors("fcos")
    (mask,) = masks(1)
    with pytest.raises(UserError, match="restoration point 5"):
        fused.detect_patches(patches(mask), SIZE, mask, 5)
    with pytest.raises(UserError, match="detector patches must be RGB uint8"):
        fused.detect_patches(patches(mask)[1:], SIZE, mask, 1)
    with pytest.raises(UserError, match="detector input must be RGB uint8"):
        fused.detect(np.zeros((4, 4), np.uint8))


CASES = [("img0", "img0", 1), ("img1", "img1", 1), ("img2", "img2_div32", 2)]


@pytest.mark.parametrize("most", [100, 1000])
@pytest.mark.parametrize(("image", "name", "factor"), CASES)
def test_golden_detections(golden: Path, image: str, name: str, factor: int, most: int) -> None:
    """Upstream's boxes from the fast path in fp32, as `test_upstream` has them from the eager one."""
    model = build_golden(golden, **({"score_threshold": 0.05, "max_detections": 1000} if most == 1000 else {}))
    model.config = model.config.with_geometry(downsampling_factor=factor)
    arrays = {**np.load(golden / "golden_tiny.npz"), **np.load(golden / "golden_tiny_pad.npz")}
    found = FusedDetector(model, weights_sha256="0", device=DEVICE).detect(arrays[f"{image}/image"])
    kind = "raw" if most == 100 else "all"
    expected = (arrays[f"{name}/{kind}_{part}"] for part in ("boxes", "scores", "classes"))
    assert len(found) == len(arrays[f"{name}/{kind}_scores"])
    assert unpaired(found, *expected, score_error=3e-4) == 0
