"""Attention at mixed resolution, compared with the formulas of section III computed one pair of tokens at a time."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.detector.mixed_resolution import layout_of, make_vit, random_mask
from vitmalis.detector.attention import attention
from vitmalis.detector.mixed import MixedLayout
from vitmalis.detector.vit import Attention
from vitmalis.regions.grid import RegionGrid


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
    shapes = [part.shape for part in layout.attention.frame]
    regions = [
        own.view((*shape, 8))
        for own, shape in zip(tokens[0].split([n * h * w for n, h, w in shapes]), shapes, strict=True)
    ]
    expected = [reference_windows(attention, region, 2).flatten(0, 1) for own in regions for region in own]
    own = attention(tokens, layout.attention)
    torch.testing.assert_close(own[0], torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_the_size_of_query_chunks_changes_nothing() -> None:
    grid = RegionGrid(200, 150, window=2)
    layout = layout_of(grid, random_mask(grid, 2))
    layer = make_vit(9, relative_grid=9).blocks[1].attn
    q, k, v = torch.randn(3, 1, 2, layout.tokens, 6)
    (relative,) = layer._relative_positions(layout.attention, torch.float32)
    torch.testing.assert_close(attention(q, k, v, relative, 7), attention(q, k, v, relative, 1000))
