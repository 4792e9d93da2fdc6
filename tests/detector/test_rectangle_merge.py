"""Merged rectangles hold the same tokens at the same coordinates; attention in their order is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitmalis.detector.attention import attention
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.positions import RelativePositions, relative_table, with_coarse
from vitmalis.detector.rectangle_merge import merge_rectangles
from vitmalis.detector.token_layout import Rectangles
from vitmalis.regions.grid import RegionGrid

GRID = RegionGrid(30 * 4, 22 * 4, window=3, factor=2, patch_px=4)  # 4 x 5 regions, partial ones at the bottom
MASKS = [np.random.default_rng(seed).random(GRID.shape) < share for seed, share in enumerate((0.2, 0.5, 0.8, 1.1))]


def coordinates(parts: tuple[Rectangles, ...]) -> Tensor:
    """Row and column of every token: (T, 2)."""
    places = []
    for part in parts:
        rows, cols = part.row_at[:, :, None].expand(part.shape), part.col_at[:, None, :].expand(part.shape)
        places.append(torch.stack([rows.flatten(), cols.flatten()], dim=1))
    return torch.cat(places)


@pytest.mark.parametrize("mask", MASKS)
def test_every_token_keeps_its_coordinates(mask: np.ndarray) -> None:
    frame = mixed_layout(GRID, mask, torch.device("cpu")).attention.frame
    merged = merge_rectangles(frame)
    assert len(merged.parts) <= 2 * GRID.shape[0]
    assert torch.equal(coordinates(merged.parts), coordinates(frame)[merged.order])
    assert torch.equal(merged.order[merged.places], torch.arange(len(merged.order)))


def test_what_has_one_resolution_is_one_rectangle() -> None:
    frame = mixed_layout(GRID, MASKS[-1], torch.device("cpu")).attention.frame
    assert len(frame) > 1
    assert [part.shape for part in merge_rectangles(frame).parts] == [(1, 11, 15)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("gradients", [False, True])
def test_attention_equals_the_formula(mask: np.ndarray, gradients: bool) -> None:
    torch.manual_seed(0)
    layout = mixed_layout(GRID, mask, torch.device("cpu")).attention
    q, k, v = torch.randn(3, 2, 3, layout.tokens, 8, requires_grad=gradients)
    tables = [with_coarse(relative_table(torch.randn(2 * size - 1, 8), size), 2) for size in (22, 30)]
    relative = RelativePositions(*tables, layout.frame)
    row, col = coordinates(layout.frame).T
    bias = torch.einsum("bhtd,tsd->bhts", q, tables[0][row[:, None], row] + tables[1][col[:, None], col])
    expected = (q @ k.transpose(2, 3) / 8**0.5 + bias).softmax(-1) @ v
    found = attention(q, k, v, relative, 50)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if gradients:
        ours, theirs = (torch.autograd.grad(x.square().sum(), q, retain_graph=True)[0] for x in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
