"""Cached regions: nothing of them is sent, and their tokens come back from an earlier frame."""

import numpy as np
import pytest
import torch

from vitmalis.codec.packing import pack, packed_size, unpack
from vitmalis.detector.cached_tokens import CachedTokens
from vitmalis.detector.config import preset
from vitmalis.detector.detector import Detector
from vitmalis.detector.flops import vit_cost
from vitmalis.detector.loading import load_detector
from vitmalis.errors import UserError
from vitmalis.regions import RegionGrid, Treatment
from vitmalis.types import Detections

HEIGHT, WIDTH = 300, 400  # 2 x 3 regions of 160 px, the last of each row and column partial
FULL, LOW, CACHED = Treatment
MIXED = np.array([[LOW, FULL, LOW], [FULL, LOW, FULL]], np.int8)
ALL_BUT_ONE = np.array([[CACHED, CACHED, CACHED], [CACHED, FULL, CACHED]], np.int8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("vitdet_tiny", device="cpu")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    return blocks.repeat(10, 0).repeat(10, 1)


@pytest.fixture(scope="module")
def grid(detector: Detector) -> RegionGrid:
    return detector.config.region_grid(HEIGHT, WIDTH)


def boxes(found: Detections) -> list[list[float]]:
    return found.select(found.scores > 0.1).boxes_xyxy.round(2).tolist()


def test_without_cached_regions_the_boxes_are_those_of_the_plain_model(
    detector: Detector, image: np.ndarray, grid: RegionGrid
) -> None:
    patches = unpack(pack(image, grid, MIXED), grid, MIXED)
    plain, mixed = detector.detect(image), detector.detect_patches(patches, (HEIGHT, WIDTH), MIXED.astype(bool), 2)
    for expected, (found, _) in (
        (plain, detector.detect_cached(image, (HEIGHT, WIDTH), None, 2)),
        (mixed, detector.detect_cached(patches, (HEIGHT, WIDTH), MIXED, 2)),
    ):
        assert np.array_equal(found.boxes_xyxy, expected.boxes_xyxy)
        assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("point", [1, 2, 4])
def test_one_region_of_the_same_frame(detector: Detector, image: np.ndarray, grid: RegionGrid, point: int) -> None:
    """Before the first global block, no region depends on another, so that nothing changes; later, one region does."""
    plain, kept = detector.detect_cached(image, (HEIGHT, WIDTH), None, point)
    patches = unpack(pack(image, grid, ALL_BUT_ONE), grid, ALL_BUT_ONE)
    found, again = detector.detect_cached(patches, (HEIGHT, WIDTH), ALL_BUT_ONE, point, kept)
    changed = (again.tokens - kept.tokens).abs().amax(1).view(grid.patch_rows, grid.patch_cols)
    assert not changed[:10].any()  # regions are ten patches high
    assert not changed[10:, :10].any()
    assert not changed[10:, 20:].any()
    if point == 1:
        assert changed.max() < 1e-3
        assert np.allclose(found.boxes_xyxy, plain.boxes_xyxy, atol=0.05)
        assert np.allclose(found.scores, plain.scores, atol=1e-4)
    else:
        assert changed.max() > 1e-3


def test_content_that_moves_by_whole_tokens_takes_its_tokens_along(grid: RegionGrid) -> None:
    tokens = torch.arange(grid.patch_rows * grid.patch_cols).view(-1, 1)
    displacements = np.zeros((*grid.shape, 2), np.int8)
    displacements[0, 1] = 2, -1  # down by two tokens, left by one
    moved = CachedTokens(grid, 1, tokens).moved(displacements).tokens.view(grid.patch_rows, grid.patch_cols)
    plain = tokens.view(grid.patch_rows, grid.patch_cols)
    assert torch.equal(moved[2:10, 10:20], plain[0:8, 11:21])
    assert torch.equal(moved[:2, 10:20], plain[[0, 0], 11:21]), "above the frame: its first row"
    assert torch.equal(moved[:, :10], plain[:, :10])
    assert torch.equal(moved[10:], plain[10:])


def test_nothing_is_packed_of_a_cached_region(image: np.ndarray, grid: RegionGrid) -> None:
    assert packed_size(grid, ALL_BUT_ONE) == (160, 160)  # 9.4 patches of the second row, padded
    assert np.array_equal(pack(image, grid, ALL_BUT_ONE)[:140], image[160:300, 160:320])
    assert (grid.full_tokens(ALL_BUT_ONE), grid.low_tokens(ALL_BUT_ONE)) == (100, 0)


def test_cached_regions_cost_nothing_before_the_restoration_point_and_are_full_afterwards(grid: RegionGrid) -> None:
    config = preset("vitdet_tiny").vit  # 8 blocks, the global ones 1, 3, 5 and 7
    cost, full = vit_cost(config, grid, ALL_BUT_ONE, 2), vit_cost(config, grid)
    assert grid.patch_rows * grid.patch_cols == 20 * 26
    assert cost.tokens == (100,) * 3 + (520,) * 5
    assert cost.linear_flops == 24 * 160**2 * (3 * 100 + 5 * 520)
    windowed = [4 * 25 * 25 * 160 * windows for windows in (4, 4, 24, 24)]  # 4 x 6 windows of 5 x 5 tokens in a frame
    whole = [4 * tokens**2 * 160 for tokens in (100, 520, 520, 520)]
    assert cost.attention_flops == sum(windowed) + sum(whole)
    assert cost.stem_flops * 520 == full.stem_flops * 100


def test_what_cannot_be_cached(detector: Detector, image: np.ndarray, grid: RegionGrid) -> None:
    patches, size = unpack(pack(image, grid, ALL_BUT_ONE), grid, ALL_BUT_ONE), (HEIGHT, WIDTH)
    _, kept = detector.detect_cached(image, size, None, 2)
    for message, arguments in (
        ("need the tokens of an earlier frame", (patches, size, ALL_BUT_ONE, 2)),
        ("choose a restoration point of at least 1", (image, size, None, 0)),
        ("restoration point 5 does not exist", (image, size, None, 5)),
        ("400x300 frame at restoration point 2 do not fit a 400x300 frame at 1", (patches, size, ALL_BUT_ONE, 1, kept)),
        ("at least one has to be sent", (patches, size, np.full(grid.shape, CACHED, np.int8), 2, kept)),
        ("each 0", (patches, size, np.full(grid.shape, 3, np.int8), 2, kept)),
        ("detector patches must be RGB uint8", (image, size, ALL_BUT_ONE, 2, kept)),
    ):
        with pytest.raises(UserError, match=message):
            detector.detect_cached(*arguments)
    with pytest.raises(UserError, match="displacements"):
        kept.moved(np.zeros((1, 1, 2), np.int8))
