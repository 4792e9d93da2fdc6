"""Absolute and relative positions: by hand, and against upstream's functions."""

import numpy as np
import pytest
import torch

from vitmalis.detector.positions import (
    RelativePositions,
    relative_table,
    resize_absolute,
    sine_positions,
    with_coarse,
)
from vitmalis.detector.token_layout import grid_rectangle


def test_relative_table_counts_from_the_key() -> None:
    table = torch.arange(5.0)[:, None]  # distances -2..2
    assert relative_table(table, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_relative_table_is_stretched_linearly() -> None:
    table = torch.tensor([[0.0], [3.0], [6.0]])  # made for 2 coordinates, wanted for 3: 5 entries
    # Entry i of 5 samples 3 entries at (i + 0.5) * 3 / 5 - 0.5, not beyond the ends.
    assert relative_table(table, 3)[2, :, 0].tolist() == pytest.approx([6.0, 4.8, 3.0])


def test_coarse_coordinates_are_means_for_queries_and_for_keys() -> None:
    table = torch.tensor([[1.0, 2.0], [5.0, 10.0]])[..., None]
    expected = [[1.0, 2.0, 1.5], [5.0, 10.0, 7.5], [3.0, 6.0, 4.5]]
    assert with_coarse(table, 2)[..., 0].tolist() == expected


def test_positions_of_the_same_grid_stay_as_they_are() -> None:
    table = torch.randn(4, 6, 8)
    assert resize_absolute(table, 4, 6) is table


def test_sine_positions_tell_tokens_apart() -> None:
    table = sine_positions(5, 7, 18)
    assert table.shape == (5, 7, 18)
    assert len(table.flatten(0, 1).unique(dim=0)) == 35
    assert table[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(("rows", "cols"), [(18, 27), (14, 14), (15, 25), (10, 9), (34, 60)])
def test_upstream_absolute(units: dict[str, np.ndarray], rows: int, cols: int) -> None:
    table = torch.from_numpy(units["abspos_in"])[0, 1:].view(14, 14, 6)  # the first entry is the class token's
    expected = torch.from_numpy(units[f"abspos_{rows}x{cols}"])[0]
    torch.testing.assert_close(resize_absolute(table, rows, cols), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [16, 18, 27, 15, 9, 34])
def test_upstream_relative(units: dict[str, np.ndarray], size: int) -> None:
    table = torch.from_numpy(units["relpos_table31"])
    expected = torch.from_numpy(units[f"relpos_q{size}"])
    torch.testing.assert_close(relative_table(table, size), expected, rtol=0, atol=1e-6)


def test_upstream_decomposed_bias(units: dict[str, np.ndarray]) -> None:
    table = torch.from_numpy(units["relpos_table31"])
    q = torch.from_numpy(units["decomp_q"])[:, None]  # (2, 1, 5 * 7, 5)
    parts = [grid_rectangle(5, 7, torch.device("cpu"))]
    relative = RelativePositions(relative_table(table, 5), relative_table(table.flip(1) * 0.7, 7), parts)
    added = torch.from_numpy(units["decomp_attn_out"] - units["decomp_attn_in"])
    torch.testing.assert_close(relative.bias(*relative.terms(q))[:, 0], added, rtol=0, atol=1e-5)
