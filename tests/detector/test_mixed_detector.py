"""Mixed resolution from images to boxes."""

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from vitmalis.codec.packing import pack, unpack
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.build import build_model
from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig, preset
from vitmalis.detector.detector import Detector
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fcos_training import BatchTargets
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.stems import HierarchicalPatchEmbed
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Detections

CPU = torch.device("cpu")
HEIGHT, WIDTH = 150, 250  # 10 x 16 patches, 4 x 4 regions with windows of 2


def small_config() -> DetectorConfig:
    base = preset("vitdet_tiny")
    vit = msgspec.structs.replace(
        base.vit, embed_dim=40, depth=4, num_heads=2, subsets=2, window=2, relative_positions=True
    )
    return msgspec.structs.replace(base, vit=vit, pyramid=PyramidConfig(strides=(8, 16, 32), channels=32))


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    torch.manual_seed(0)
    return build_model(small_config()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def detector(model: DetectionModel) -> Detector:
    return Detector(model, weights_sha256="0")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    return np.random.default_rng(1).random((3, 4)) < 0.5


def batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def same(ours: Detections, theirs: Detections) -> bool:
    return len(ours) > 0 and len(ours) == len(theirs) and np.allclose(ours.scores, theirs.scores, atol=1e-5)


def test_nothing_downsampled_is_the_plain_detector(detector: Detector, image: np.ndarray) -> None:
    plain = detector.detect(image)
    for point in range(3):
        mixed = detector.detect(image, np.zeros((3, 4), bool), point)
        assert np.array_equal(mixed.boxes_xyxy, plain.boxes_xyxy)
        assert np.array_equal(mixed.scores, plain.scores)


def test_every_restoration_point_gives_other_boxes_inside_the_image(
    detector: Detector, image: np.ndarray, mask: np.ndarray
) -> None:
    found = [detector.detect(image, mask, point) for point in range(3)]
    for detections in found:
        assert len(detections) > 0
        assert (detections.boxes_xyxy <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert not same(found[0], found[1])
    assert not same(found[1], found[2])


def test_a_uniform_image_is_the_same_at_low_resolution_of_its_pixels(detector: Detector, mask: np.ndarray) -> None:
    """Point 0 changes pixels only, and there is nothing to change when regions are whole inside the frame."""
    flat = np.full((128, 256, 3), 77, np.uint8)
    assert same(detector.detect(flat, mask[:2], 0), detector.detect(flat))


@pytest.mark.parametrize("point", [0, 1, 2])
def test_patches_do_what_the_image_does(model: DetectionModel, image: np.ndarray, mask: np.ndarray, point: int) -> None:
    """Whatever the patches hold beyond the frame, the model sees the zeros that it pads with."""
    grid = model.config.region_grid(HEIGHT, WIDTH)
    layout = mixed_layout(grid, mask, CPU)
    padded = torch.full((1, 3, grid.padded_height_px, grid.padded_width_px), 99.0)
    padded[:, :, :HEIGHT, :WIDTH] = batch(image)
    patches = layout.cut(padded)
    assert patches.shape == (1, grid.tokens(mask), 16, 16, 3)
    expected = model.predict(batch(image), mask, point)[0]
    found = model.predict_patches(patches, layout, point)[0]
    assert same(found, expected)
    assert np.allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)


def test_a_detector_learns_at_mixed_resolution(image: np.ndarray, mask: np.ndarray) -> None:
    model = build_model(small_config())
    assert isinstance(model, FcosDetector)
    target = {"boxes": torch.tensor([[20.0, 20.0, 90.0, 120.0]]), "labels": torch.tensor([1])}
    losses = model.loss(model(batch(image), mask, 2), BatchTargets.padded([target]))
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_mask_rcnn_takes_masks_too(image: np.ndarray, mask: np.ndarray) -> None:
    head = RcnnConfig(box_convs=(16,), box_width=32, proposals=50, score_threshold=0.0)
    config = msgspec.structs.replace(
        small_config(),
        vit=VitConfig(embed_dim=32, depth=4, num_heads=2, subsets=2, window=2),
        pyramid=PyramidConfig(channels=16),
        head=head,
    )
    detector = Detector(build_model(config), weights_sha256="0")
    assert same(detector.detect(image, np.zeros((3, 4), bool), 1), detector.detect(image))
    assert len(detector.detect(image, mask, 1)) > 0


def test_bf16_takes_masks_too(model: DetectionModel, image: np.ndarray, mask: np.ndarray) -> None:
    detector = Detector(model, weights_sha256="0", precision="bf16")
    for point in range(3):
        coarse, exact = detector.detect(image, mask, point), model.predict(batch(image), mask, point)[0]
        assert abs(float(coarse.scores.mean()) - float(exact.scores.mean())) < 0.01


def test_bf16_reads_no_uninitialised_memory() -> None:
    """On CPUs with AMX a bfloat16 convolution of 20 channels does; freed memory full of NaN makes it show."""
    torch.manual_seed(0)
    embed, strip = HierarchicalPatchEmbed(16, 40).eval(), torch.rand(1, 3, 1696, 16)
    for _ in range(10):
        freed = [torch.full((count,), float("nan")) for count in (1_000, 20_000, 400_000)]
        del freed
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert torch.isfinite(embed(strip)).all()


def test_frames_are_padded_to_low_resolution_patches() -> None:
    config = small_config().with_geometry(downsampling_factor=3)
    assert config.divisor_px == 48
    assert config.region_grid(HEIGHT, WIDTH) == RegionGrid(WIDTH, HEIGHT, window=2, factor=3)
    for factor in (0, 9):
        with pytest.raises(UserError, match=rf"model\.downsampling_factor={factor}: give 1 to 8"):
            small_config().with_geometry(downsampling_factor=factor)


def test_wrong_masks_and_points_are_refused(detector: Detector, image: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"a 250x150 frame has 3 x 4 regions of 64 px"):
        detector.detect(image, mask[:2], 1)
    with pytest.raises(UserError, match="restoration point 3 does not exist; choose 0 to 2"):
        detector.detect(image, mask, 3)
    with pytest.raises(UserError, match="restoration point -1 does not exist"):
        detector.detect(image, restoration_point=-1)


def test_images_in_one_batch_are_what_they_are_one_by_one(detector: Detector, image: np.ndarray) -> None:
    images = [image, np.ascontiguousarray(image[:, ::-1])]
    for together, alone in zip(detector.detect_each(images), map(detector.detect, images), strict=True):
        assert same(together, alone)
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)


@pytest.mark.parametrize("point", range(3))
def test_patches_of_different_masks_in_one_batch_are_what_they_are_one_by_one(
    detector: Detector, image: np.ndarray, point: int
) -> None:
    grid = detector.geometry.grid(WIDTH, HEIGHT)
    masks = [np.zeros(grid.shape, bool) for _ in range(2)]
    masks[0][0, 0] = masks[1][1, 1] = True
    images = [image, np.ascontiguousarray(image[:, ::-1])]
    patches = [unpack(pack(own, grid, mask), grid, mask) for own, mask in zip(images, masks, strict=True)]
    each = detector.detect_patches_each(patches, (HEIGHT, WIDTH), masks, point)
    for together, own, mask in zip(each, patches, masks, strict=True):
        alone = detector.detect_patches(own, (HEIGHT, WIDTH), mask, point)
        assert same(together, alone)
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)


def test_masks_that_leave_different_numbers_of_patches_are_no_batch(detector: Detector, image: np.ndarray) -> None:
    grid = detector.geometry.grid(WIDTH, HEIGHT)
    masks = [np.arange(np.prod(grid.shape)).reshape(grid.shape) < low for low in (1, 2)]
    patches = [unpack(pack(image, grid, mask), grid, mask) for mask in masks]
    with pytest.raises(UserError, match="only frames of one size and number of tokens make a batch"):
        detector.detect_patches_each(patches, (HEIGHT, WIDTH), masks, 1)
