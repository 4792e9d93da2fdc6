"""Mixed resolution: the plain ViT when nothing is low, and the formulas of section III when something is."""

from itertools import product

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.regions.test_grid import patch_mask
from vitmalis.detector.attention import attention
from vitmalis.detector.config import VitConfig
from vitmalis.detector.mixed import MixedLayout, _mixed_layout, mixed_layout
from vitmalis.detector.vit import Attention, ViT
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

CPU = torch.device("cpu")
TINY = VitConfig(embed_dim=12, depth=6, num_heads=2, subsets=3, window=2, position_grid=(5, 4), relative_grid=3)


def make_vit(seed: int, **changes: object) -> ViT:
    """A small ViT whose every parameter is far from zero."""
    torch.manual_seed(seed)
    vit = ViT(msgspec.structs.replace(TINY, **changes)).eval().requires_grad_(False)
    for parameter in vit.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return vit


def padded_noise(grid: RegionGrid, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, grid.padded_height_px, grid.padded_width_px)


def layout_of(grid: RegionGrid, mask: np.ndarray) -> MixedLayout:
    return mixed_layout(grid, mask, CPU)


def random_mask(grid: RegionGrid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(grid.shape) < 0.5


sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))
stems = st.sampled_from(["linear", "hierarchical"])


@settings(max_examples=25, deadline=None)
@given(
    size=sizes,
    window=st.integers(1, 4),
    factor=st.integers(1, 3),
    patch_px=st.sampled_from([8, 16]),
    relative=st.booleans(),
    stem=stems,
    point=st.integers(0, 3),
)
def test_an_empty_mask_is_the_plain_vit(
    size: tuple[int, int], window: int, factor: int, patch_px: int, relative: bool, stem: str, point: int
) -> None:
    """All the machinery of two resolutions runs here, with no token to lower."""
    vit = make_vit(0, window=window, relative_positions=relative, stem=stem, patch_px=patch_px)
    grid = RegionGrid(*size, window, factor, patch_px)
    images = padded_noise(grid, batch=2)
    mixed = vit(images, layout_of(grid, np.zeros(grid.shape, bool)), point)
    torch.testing.assert_close(mixed, vit(images), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    size=sizes,
    window=st.integers(1, 4),
    relative=st.booleans(),
    point=st.integers(0, 3),
    seed=st.one_of(st.none(), st.integers(0, 99)),
)
def test_a_factor_of_one_is_the_plain_vit(
    size: tuple[int, int], window: int, relative: bool, point: int, seed: int | None
) -> None:
    """Low tokens that cover one patch each: everything, or a random part."""
    vit = make_vit(1, window=window, relative_positions=relative)
    grid = RegionGrid(*size, window, 1)
    images = padded_noise(grid)
    mask = np.ones(grid.shape, bool) if seed is None else random_mask(grid, seed)
    torch.testing.assert_close(vit(images, layout_of(grid, mask), point), vit(images), rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(size=sizes, window=st.integers(1, 4), factor=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_token_has_its_place(size: tuple[int, int], window: int, factor: int, seed: int) -> None:
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


def covered_cells(layout: MixedLayout) -> list[tuple[list[int], list[int]]]:
    """Rows and columns of patches that each token covers."""
    factor = layout.grid.factor
    spans = []
    for cells, scale in ((layout.full, 1), (layout.low, factor)):
        for row, col in zip(cells.rows.tolist(), cells.cols.tolist(), strict=True):
            rows, cols = (list(range(at * scale, (at + 1) * scale)) for at in (row, col))
            spans.append((rows, cols))
    return spans


def reference_global(attention: Attention, tokens: Tensor, layout: MixedLayout) -> Tensor:
    """Global attention of one sequence (T, C) by the formula, one pair of tokens after the other."""
    rows, cols = layout.grid.patch_rows, layout.grid.patch_cols
    spans = covered_cells(layout)
    q, k, v = attention.qkv(tokens).unflatten(1, (3, attention.num_heads, -1)).permute(1, 2, 0, 3)
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if attention.rel_pos_h is not None and attention.rel_pos_w is not None:
        # Tables of the right length, so that no resizing blurs the comparison.
        assert len(attention.rel_pos_h) == 2 * rows - 1
        assert len(attention.rel_pos_w) == 2 * cols - 1
        for i, j in product(range(len(spans)), repeat=2):
            pairs = [(a, b) for a, b in product(spans[i][0], spans[j][0])]
            row = torch.stack([attention.rel_pos_h[a - b + rows - 1] for a, b in pairs]).mean(0)
            pairs = [(a, b) for a, b in product(spans[i][1], spans[j][1])]
            col = torch.stack([attention.rel_pos_w[a - b + cols - 1] for a, b in pairs]).mean(0)
            logits[:, i, j] += q[:, i] @ (row + col)
    return attention.proj((logits.softmax(-1) @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("mask", [[[True, False]], [[False, True]], [[True, True]]])
def test_global_attention_by_pairs(relative: bool, mask: list[list[bool]]) -> None:
    """A frame of 6 x 6 patches: one whole region of 4 x 4 is cut at both borders."""
    grid = RegionGrid(96, 96, window=2)
    layout = layout_of(grid, np.array([mask[0], [False, True]]))
    torch.manual_seed(2)
    attention = Attention(8, 2, relative_size=6 * relative, windowed=False).requires_grad_(False)
    for parameter in attention.parameters():
        parameter.copy_(torch.randn_like(parameter))
    tokens = torch.randn(2, layout.tokens, 8)
    expected = torch.stack([reference_global(attention, own, layout) for own in tokens])
    torch.testing.assert_close(attention(tokens, layout.attention), expected, rtol=1e-4, atol=1e-4)


def reference_windows(attention: Attention, region: Tensor, window: int) -> Tensor:
    """Window attention of one region (h, w, C): cut from its top left, filled with zeros, pair by pair."""
    height, width, channels = region.shape
    filled = torch.zeros(height + window, width + window, channels)
    filled[:height, :width] = region
    mixed = torch.zeros_like(filled)
    places = list(product(range(window), repeat=2))
    for top, left in product(range(0, height, window), range(0, width, window)):
        tokens = torch.stack([filled[top + a, left + b] for a, b in places])
        q, k, v = attention.qkv(tokens).unflatten(1, (3, attention.num_heads, -1)).permute(1, 2, 0, 3)
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        for (i, (a, b)), (j, (c, d)) in product(enumerate(places), repeat=2):
            position = attention.rel_pos_h[a - c + window - 1] + attention.rel_pos_w[b - d + window - 1]
            logits[:, i, j] += q[:, i] @ position
        for (a, b), out in zip(places, (logits.softmax(-1) @ v).transpose(0, 1).flatten(1), strict=True):
            mixed[top + a, left + b] = out
    return attention.proj(mixed[:height, :width])


@pytest.mark.parametrize("mask", [[True, False], [False, True], [True, True], [False, False]])
def test_window_attention_by_pairs(mask: list[bool]) -> None:
    """Regions of 4 x 4 and, cut at the right and bottom, 4 x 2, 2 x 4 and 2 x 2 patches."""
    grid = RegionGrid(96, 96, window=2)
    layout = layout_of(grid, np.array([mask, [True, False]]))
    torch.manual_seed(3)
    attention = Attention(8, 2, relative_size=2, windowed=True).requires_grad_(False)
    for parameter in attention.parameters():
        parameter.copy_(torch.randn_like(parameter))
    tokens = torch.randn(1, layout.tokens, 8)
    sizes = [part.shape for part in layout.attention.frame]
    regions = [
        own.view((*shape, 8))
        for own, shape in zip(tokens[0].split([n * h * w for n, h, w in sizes]), sizes, strict=True)
    ]
    expected = [reference_windows(attention, region, 2).flatten(0, 1) for own in regions for region in own]
    own = attention(tokens, layout.attention)
    torch.testing.assert_close(own[0], torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_restoration_is_bilinear_inside_the_region() -> None:
    """One row of two low tokens 0 and 4 becomes 0 1 3 4: nothing of the neighbour with 100."""
    grid = RegionGrid(8 * 16, 4 * 16, window=2)
    layout = layout_of(grid, np.array([[True, False]]))
    tokens = torch.full((1, 20, 1), 100.0)
    tokens[0, 16:, 0] = torch.tensor([0.0, 4.0, 0.0, 4.0])
    restored = layout.restore(tokens).view(4, 8)
    assert restored.tolist() == [[0, 1, 3, 4, 100, 100, 100, 100]] * 4


@settings(max_examples=30, deadline=None)
@given(size=sizes, window=st.integers(1, 4), factor=st.integers(1, 3), seed=st.integers(0, 99))
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


@settings(max_examples=20, deadline=None)
@given(size=sizes, window=st.integers(1, 3), factor=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_uniform_image_survives_the_pixels_way(size: tuple[int, int], window: int, factor: int, seed: int) -> None:
    """Full pixels come back as they were, and low ones as the mean of what they covered."""
    grid = RegionGrid(*size, window, factor)
    mask = random_mask(grid, seed)
    layout = layout_of(grid, mask)
    images = padded_noise(grid)
    restored = layout.restore_pixels(layout.cut(images))
    keep = torch.from_numpy(~patch_mask(grid, mask).repeat(16, 0).repeat(16, 1))
    assert torch.equal(restored[..., keep], images[..., keep])
    flat = torch.full_like(images, 0.75)
    torch.testing.assert_close(layout.restore_pixels(layout.cut(flat)), flat)


def test_pixels_of_one_region_stay_in_it_until_a_global_block() -> None:
    """Point 1 restores in front of the first global block, so everything before it knows its own region only."""
    vit = make_vit(4, depth=3, subsets=1)
    grid = RegionGrid(128, 96, window=2)
    layout = layout_of(grid, np.array([[True, True], [False, True]]))
    seen: list[Tensor] = []
    vit.blocks[2].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].view(6, 8, -1)))
    images = padded_noise(grid)
    vit(images, layout, 1)
    images[:, :, :64, :64] += 1.0  # the upper left region
    vit(images, layout, 1)
    changed = (seen[0] != seen[1]).any(-1)
    assert changed[:4, :4].all()
    assert changed.sum() == 16


@pytest.mark.parametrize("point", [0, 1, 2, 3])
def test_points_cut_the_blocks_where_they_say(point: int) -> None:
    vit = make_vit(5)
    grid = RegionGrid(96, 64, window=2)
    layout = layout_of(grid, np.array([[True, False]]))
    seen: list[int] = []
    for block in vit.blocks:
        block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[1]))
    vit(padded_noise(grid), layout, point)
    mixed_blocks = {0: 0, 1: 1, 2: 3, 3: 5}[point]
    assert seen == [12] * mixed_blocks + [24] * (6 - mixed_blocks)


@pytest.mark.parametrize("point", [0, 1, 3])
def test_a_uniform_frame_needs_no_resolution(point: int) -> None:
    """Without positions, tokens of one colour are equal at every resolution, if windows and frame are filled."""
    vit = make_vit(6, relative_positions=False)
    vit.pos_embed.zero_()
    grid = RegionGrid(128, 128, window=2)
    layout = layout_of(grid, np.array([[True, False], [False, True]]))
    image = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1).expand(1, 3, 128, 128)
    torch.testing.assert_close(vit(image, layout, point), vit(image), rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_images() -> None:
    vit = make_vit(7)
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 0))
    images = padded_noise(grid, batch=3)
    one_by_one = torch.cat([vit(image[None], layout, 2) for image in images])
    torch.testing.assert_close(vit(images, layout, 2), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("point", [0, 1, 2, 3])
def test_everything_learns(point: int) -> None:
    vit = make_vit(8).train().requires_grad_(True)
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 1))
    vit(padded_noise(grid), layout, point).square().mean().backward()
    for name, parameter in vit.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), name


def test_chunks_of_queries_change_nothing() -> None:
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 2))
    layer = make_vit(9, relative_grid=9).blocks[1].attn
    q, k, v = torch.randn(3, 1, 2, layout.tokens, 6)
    (relative,) = layer._relative_positions(layout.attention, torch.float32)
    torch.testing.assert_close(attention(q, k, v, relative, 7), attention(q, k, v, relative, 1000))


def test_layouts_are_kept() -> None:
    grid = RegionGrid(200, 150, window=2)
    mask = random_mask(grid, 3)
    with torch.inference_mode():
        first = layout_of(grid, mask)
    assert layout_of(RegionGrid(200, 150, window=2), mask.copy()) is first
    assert not first.raster.is_inference()
    assert _mixed_layout.cache_info().maxsize == 64


def test_what_does_not_fit_is_refused() -> None:
    vit = make_vit(10)
    grid = RegionGrid(128, 64, window=2)
    images, mask = padded_noise(grid), np.array([[True, False]])
    with pytest.raises(UserError, match="restoration point 4 does not exist; choose 0 to 3"):
        vit(images, layout_of(grid, mask), 4)
    other = layout_of(RegionGrid(128, 64, window=1, factor=4), mask)
    with pytest.raises(UserError, match="windows of 1, but the model has 16 px and 2"):
        vit(images, other, 1)
    with pytest.raises(UserError, match="downsample mask is bool"):
        layout_of(grid, np.array([[True]]))
