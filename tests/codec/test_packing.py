from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.codec.layout import packed_layout
from vitmalis.codec.packing import FLAT_GREY, pack, packed_size, unpack
from vitmalis.detector.mixed import mixed_layout
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, RgbImage

EMBEDDED = RegionGrid(960, 540, 5)  # 4 x 6 regions of 160 px, those of the last row 64 px high


@st.composite
def frames(draw: st.DrawFn, factors: tuple[int, ...] = (1, 2, 3)) -> tuple[RegionGrid, BoolMask, RgbImage]:
    """A frame of any size with any mask."""
    grid = RegionGrid(
        draw(st.integers(16, 400)), draw(st.integers(16, 300)), draw(st.integers(1, 4)), draw(st.sampled_from(factors))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random(grid.shape) < draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    return grid, mask, rng.integers(0, 256, (grid.height_px, grid.width_px, 3), np.uint8)


def padded(image: RgbImage, grid: RegionGrid) -> np.ndarray:
    bottom, right = grid.padded_height_px - grid.height_px, grid.padded_width_px - grid.width_px
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")


def some_mask(grid: RegionGrid, seed: int = 0) -> BoolMask:
    return np.random.default_rng(seed).permutation(np.arange(np.prod(grid.shape)) % 2 == 0).reshape(grid.shape)


@settings(max_examples=60)
@given(frames())
def test_every_token_comes_back_in_the_order_of_the_detector(frame: tuple[RegionGrid, BoolMask, RgbImage]) -> None:
    grid, mask, image = frame
    patches = unpack(pack(image, grid, mask), grid, mask)
    pixels = torch.from_numpy(padded(image, grid)).permute(2, 0, 1)[None].double()
    layout = mixed_layout(grid, mask, torch.device("cpu"))
    expected = layout.cut(pixels)[0].numpy()
    assert patches.shape == expected.shape
    inside, full = layout.inside().numpy(), grid.full_tokens(mask)
    np.testing.assert_array_equal(patches[:full][inside[:full]], expected[:full][inside[:full]])
    difference = np.abs(patches - expected)[full:][inside[full:]]
    assert difference.max(initial=0) <= 0.5 + 1e-9  # means, rounded


@settings(max_examples=60)
@given(frames())
def test_no_jpeg_block_sees_two_regions(frame: tuple[RegionGrid, BoolMask, RgbImage]) -> None:
    """Each region is one colour of its own: so is each block of 16 x 16 pixels."""
    grid, mask, image = frame
    number = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for (row, col), (left, top, right, bottom) in zip(
        np.ndindex(grid.shape), grid.region_boxes_px.reshape(-1, 4), strict=True
    ):
        at = number[row, col]
        image[top:bottom, left:right] = (1 + at % 100, at // 100, 200)
    packed = pack(image, grid, mask)
    blocks = packed.reshape(packed.shape[0] // 16, 16, packed.shape[1] // 16, 16, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    filled = (blocks[:, 0, :, 0, 2] == 200).sum()
    assert filled == grid.tokens(mask)
    assert (blocks[:, 0, :, 0][blocks[:, 0, :, 0, 2] != 200] == FLAT_GREY).all()


@settings(max_examples=60)
@given(frames())
def test_channels_are_reversed_in_the_same_pass(frame: tuple[RegionGrid, BoolMask, RgbImage]) -> None:
    grid, mask, image = frame
    np.testing.assert_array_equal(pack(image, grid, mask, bgr=True)[..., ::-1], pack(image, grid, mask))


@settings(max_examples=60)
@given(frames())
def test_regions_lie_apart_and_inside(frame: tuple[RegionGrid, BoolMask, RgbImage]) -> None:
    grid, mask, _ = frame
    layout = packed_layout(grid, mask)
    covered = np.zeros((layout.rows, layout.cols), int)
    for group in layout.groups:
        for row, col in group.corners:
            assert row + group.height <= layout.rows
            assert col + group.width <= layout.cols
            covered[row : row + group.height, col : col + group.width] += 1
    assert covered.sum() == grid.tokens(mask)
    for row, col, height, width in layout.gaps:
        covered[row : row + height, col : col + width] += 1
    assert (covered == 1).all()


def test_the_layout_of_two_columns_by_hand() -> None:
    """Regions of 2 x 2 patches: two of full resolution in one column, the third and the low one in the next."""
    grid = RegionGrid(64, 64, 1)
    mask = np.array([[False, True], [False, False]])
    layout = packed_layout(grid, mask)
    assert packed_size(grid, mask) == (64, 64)
    assert [(group.factor, group.corners) for group in layout.groups] == [
        (1, ((0, 0), (2, 0), (0, 2))),
        (2, ((2, 2),)),
    ]


@pytest.mark.parametrize("grid", [EMBEDDED, RegionGrid(1920, 1080, 9)], ids=["960x540", "1080p"])
def test_the_area_falls_with_the_tokens(grid: RegionGrid) -> None:
    waste = []
    for seed in range(20):
        mask = some_mask(grid, seed)
        height, width = packed_size(grid, mask)
        waste.append(height * width / (grid.tokens(mask) * 256) - 1)
        assert height * width < 0.85 * grid.padded_height_px * grid.padded_width_px
    assert np.mean(waste) < 0.12


def test_pixels_survive_a_jpeg() -> None:
    """Smooth regions of different colours: what one is does not colour the other beyond JPEG's own error."""
    image = np.zeros((540, 960, 3), np.uint8)
    for index, (left, top, right, bottom) in enumerate(EMBEDDED.region_boxes_px.reshape(-1, 4)):
        image[top:bottom, left:right] = np.random.default_rng(index).integers(60, 200, 3)
    mask = some_mask(EMBEDDED)
    sent = pack(image, EMBEDDED, mask)
    received = decode_jpeg(encode_jpeg(sent, 95), sent.size)
    difference = np.abs(unpack(received, EMBEDDED, mask).astype(int) - unpack(sent, EMBEDDED, mask))
    # Inside; at its very border a decoder smooths chroma between blocks.
    assert difference[:, 1:-1, 1:-1].max() <= 4


def test_images_and_masks_of_other_sizes_are_refused() -> None:
    mask = some_mask(EMBEDDED)
    with pytest.raises(ValueError, match=r"image is uint8 \(540, 961, 3\), expected uint8 \(540, 960, 3\)"):
        pack(np.zeros((540, 961, 3), np.uint8), EMBEDDED, mask)
    with pytest.raises(ValueError, match="float64"):
        pack(np.zeros((540, 960, 3)), EMBEDDED, mask)  # type: ignore[arg-type]
    height, width = packed_size(EMBEDDED, mask)
    with pytest.raises(ValueError, match="image is"):
        unpack(np.zeros((height, width + 16, 3), np.uint8), EMBEDDED, mask)
    for work in (lambda m: packed_size(EMBEDDED, m), lambda m: pack(np.zeros((540, 960, 3), np.uint8), EMBEDDED, m)):
        with pytest.raises(UserError, match="4 x 6 regions of 160 px"):
            work(mask[:3])


def test_low_pixels_are_area_means_by_hand() -> None:
    grid = RegionGrid(32, 32, 1)
    image = cv2.cvtColor(np.arange(1024, dtype=np.uint16).reshape(32, 32).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    (patch,) = unpack(pack(image, grid, np.array([[True]])), grid, np.array([[True]]))
    assert patch[0, 0].tolist() == [17, 17, 17]  # (0 + 1 + 32 + 33) / 4 = 16.5
    assert patch[1, 2].tolist() == [85, 85, 85]  # (68 + 69 + 100 + 101) / 4 = 84.5
