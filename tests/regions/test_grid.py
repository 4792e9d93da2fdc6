"""Regions of frames by hand, and what holds for every frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

grids = st.builds(
    RegionGrid,
    width_px=st.integers(1, 700),
    height_px=st.integers(1, 700),
    window=st.integers(1, 6),
    factor=st.integers(1, 4),
    patch_px=st.sampled_from([8, 16]),
)


def masks(grid: RegionGrid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(grid.shape) < 0.5


def test_the_papers_frame() -> None:
    grid = RegionGrid(1920, 1080, window=9)
    assert grid.side_px == 288
    assert (grid.padded_width_px, grid.padded_height_px) == (1920, 1088)
    assert (grid.patch_rows, grid.patch_cols) == (68, 120)
    assert grid.shape == (4, 7)
    assert grid.heights.tolist() == [18, 18, 18, 14]
    assert grid.widths.tolist() == [18, 18, 18, 18, 18, 18, 12]


def patch_mask(grid: RegionGrid, downsample_mask: np.ndarray) -> np.ndarray:
    """Whether the region of each patch is downsampled: bool (patch_rows, patch_cols)."""
    return downsample_mask.repeat(grid.heights, axis=0).repeat(grid.widths, axis=1)


def test_tokens_by_hand() -> None:
    """A frame of 100 x 70 px: 8 x 6 patches in regions of 4, so the lower row of regions is 2 patches high."""
    grid = RegionGrid(100, 70, window=2)
    assert grid.shape == (2, 2)
    assert grid.region_patches.tolist() == [[16, 16], [8, 8]]
    none, lower_right = np.zeros((2, 2), bool), np.array([[False, False], [False, True]])
    assert grid.tokens(none) == 48
    assert (grid.full_tokens(lower_right), grid.low_tokens(lower_right)) == (40, 2)
    assert grid.tokens(lower_right) == 42
    assert grid.tokens(~none) == 12
    assert patch_mask(grid, lower_right).nonzero()[0].tolist() == [4] * 4 + [5] * 4
    assert grid.region_boxes_px.tolist() == [
        [[0, 0, 64, 64], [64, 0, 100, 64]],
        [[0, 64, 64, 70], [64, 64, 100, 70]],
    ]


@given(grid=grids, seed=st.integers(0, 99))
def test_regions_cover_the_frame_once(grid: RegionGrid, seed: int) -> None:
    assert 0 <= grid.padded_height_px - grid.height_px < grid.patch_px * grid.factor
    assert 0 <= grid.padded_width_px - grid.width_px < grid.patch_px * grid.factor
    assert grid.region_patches.sum() == grid.patch_rows * grid.patch_cols
    assert (grid.heights % grid.factor == 0).all()
    assert (grid.widths > 0).all()
    assert (grid.widths <= grid.side).all()
    boxes = grid.region_boxes_px
    assert (boxes[..., 2:] - boxes[..., :2]).prod(-1).sum() == grid.width_px * grid.height_px
    mask = masks(grid, seed)
    covered = patch_mask(grid, mask)
    assert covered.shape == (grid.patch_rows, grid.patch_cols)
    assert covered.sum() == grid.low_tokens(mask) * grid.factor**2
    assert (~covered).sum() == grid.full_tokens(mask)


@pytest.mark.parametrize("mask", [np.zeros((4, 6), bool), np.zeros((4, 7), int), np.zeros(28, bool)])
def test_a_mask_of_another_grid_is_refused(mask: np.ndarray) -> None:
    grid = RegionGrid(1920, 1080, window=9)
    with pytest.raises(UserError, match=r"a 1920x1080 frame has 4 x 7 regions of 288 px: give bool \(4, 7\)"):
        grid.tokens(mask)


def test_a_grid_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="factor must be at least 1, not 0"):
        RegionGrid(1920, 1080, window=9, factor=0)
