"""Layouts of mixed resolution: the tokens, windows and positions of a mask, and the way back to full resolution."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detector.mixed_resolution import frame_sizes, layout_of, padded_noise, random_mask
from tests.regions.test_grid import patch_mask
from vitmalis.detector.mixed import _mixed_layout
from vitmalis.regions.grid import RegionGrid


@settings(max_examples=30)
@given(size=frame_sizes, window=st.integers(1, 4), factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_tokens_cover_the_frame_and_fill_the_windows(
    size: tuple[int, int], window: int, factor: int, seed: int
) -> None:
    grid = RegionGrid(*size, window, factor)
    mask = random_mask(grid, seed)
    layout = layout_of(grid, mask)
    assert (len(layout.full.rows), len(layout.low.rows)) == (grid.full_tokens(mask), grid.low_tokens(mask))
    covered = torch.from_numpy(patch_mask(grid, mask))
    assert covered[layout.low.rows * factor, layout.low.cols * factor].all()
    assert not covered[layout.full.rows, layout.full.cols].any()
    whole = grid.region_patches == grid.side**2
    expected = factor**2 * (~mask & whole).sum() + (mask & whole).sum()
    for height, width in zip(*np.nonzero(~whole), strict=True):
        scale = factor if mask[height, width] else 1
        down, across = (grid.heights[height] // scale, grid.widths[width] // scale)
        expected += -(-down // window) * -(-across // window)
    assert len(layout.attention.slot_token) == expected * window**2
    numbers = torch.arange(layout.tokens)[None, :, None].float()
    windows = layout.attention.window_partition(numbers, torch.tensor([-1.0]))
    assert torch.equal(layout.attention.window_unpartition(windows, 1), numbers)


def test_a_low_region_is_one_window_and_a_full_one_is_four() -> None:
    """A frame of 8 x 4 patches, windows of 2: the left region is downsampled."""
    grid = RegionGrid(128, 64, window=2)
    layout = layout_of(grid, np.array([[True, False]]))
    assert layout.attention.slot_token.view(-1, 4).tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15],
        [16, 17, 18, 19],
    ]  # fmt: skip
    assert layout.full.cols[:5].tolist() == [4, 5, 6, 7, 4]
    assert (layout.low.rows.tolist(), layout.low.cols.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])


def test_patches_are_pixels_or_their_means() -> None:
    grid = RegionGrid(8, 4, window=1, factor=2, patch_px=2)
    image = torch.arange(32.0).view(1, 1, 4, 8).expand(1, 3, 4, 8)
    patches = layout_of(grid, np.array([[True, False]])).cut(image)
    assert patches.shape == (1, 5, 2, 2, 3)
    assert patches[0, 0, :, :, 0].tolist() == [[4, 5], [12, 13]]
    assert patches[0, 4, :, :, 2].tolist() == [[4.5, 6.5], [20.5, 22.5]]


def test_low_tokens_have_the_mean_position() -> None:
    grid = RegionGrid(128, 64, window=2)
    table = torch.randn(4, 8, 5)
    positions = layout_of(grid, np.array([[True, False]])).positions(table)
    torch.testing.assert_close(positions[0], table[0, 4])
    torch.testing.assert_close(positions[17], table[0:2, 2:4].mean((0, 1)))


def test_equal_masks_share_a_cached_layout() -> None:
    grid = RegionGrid(200, 150, window=2)
    mask = random_mask(grid, 3)
    with torch.inference_mode():
        first = layout_of(grid, mask)
    assert layout_of(RegionGrid(200, 150, window=2), mask.copy()) is first
    assert not first.raster.is_inference()
    assert _mixed_layout.cache_info().maxsize == 64


def test_restoration_is_bilinear_inside_the_region() -> None:
    """One row of two low tokens 0 and 4 becomes 0 1 3 4: the neighbour with 100 adds nothing."""
    grid = RegionGrid(8 * 16, 4 * 16, window=2)
    layout = layout_of(grid, np.array([[True, False]]))
    tokens = torch.full((1, 20, 1), 100.0)
    tokens[0, 16:, 0] = torch.tensor([0.0, 4.0, 0.0, 4.0])
    restored = layout.restore(tokens).view(4, 8)
    assert restored.tolist() == [[0, 1, 3, 4, 100, 100, 100, 100]] * 4


@settings(max_examples=30)
@given(size=frame_sizes, window=st.integers(1, 4), factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_restoration_keeps_full_tokens_and_the_sum(size: tuple[int, int], window: int, factor: int, seed: int) -> None:
    grid = RegionGrid(*size, window, factor)
    mask = random_mask(grid, seed)
    layout = layout_of(grid, mask)
    tokens = torch.rand(2, layout.tokens, 3)
    restored = layout.restore(tokens).unflatten(1, (grid.patch_rows, grid.patch_cols))
    n = len(layout.full.rows)
    assert torch.equal(layout.full.pick(restored), tokens[:, :n])
    assert restored.amin() >= tokens.amin() - 1e-6
    assert restored.amax() <= tokens.amax() + 1e-6
    low_sum = restored.sum((1, 2)) - tokens[:, :n].sum(1)
    if factor == 2:  # the weights of an enlargement by 2 with clamped ends sum to 4 for every low token
        torch.testing.assert_close(low_sum, 4 * tokens[:, n:].sum(1), rtol=1e-4, atol=1e-3)


@settings(max_examples=20)
@given(size=frame_sizes, window=st.integers(1, 3), factor=st.integers(1, 4), seed=st.integers(0, 99))
def test_restored_pixels_are_exact_where_full(size: tuple[int, int], window: int, factor: int, seed: int) -> None:
    """Full pixels come back as they were; in a uniform image the low ones do so too."""
    grid = RegionGrid(*size, window, factor)
    mask = random_mask(grid, seed)
    layout = layout_of(grid, mask)
    images = padded_noise(grid)
    restored = layout.restore_pixels(layout.cut(images))
    keep = torch.from_numpy(~patch_mask(grid, mask).repeat(16, 0).repeat(16, 1))
    assert torch.equal(restored[..., keep], images[..., keep])
    flat = torch.full_like(images, 0.75)
    torch.testing.assert_close(layout.restore_pixels(layout.cut(flat)), flat)
