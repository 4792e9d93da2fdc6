"""Absolute and decomposed relative positions: pure functions on tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sine_positions(rows: int, cols: int, width: int) -> Tensor:
    """Fixed sine and cosine positions, to start a learned table from: (rows, cols, width).

    A quarter of the channels each holds sin(row), cos(row), sin(col), cos(col) at falling frequencies; the
    remainder of a width that 4 does not divide stays zero.
    """
    frequencies = 10000.0 ** (-torch.arange(width // 4) / (width // 4))  # (width / 4,)
    row = torch.arange(rows)[:, None] * frequencies  # (rows, width / 4)
    col = torch.arange(cols)[:, None] * frequencies  # (cols, width / 4)
    row_part = torch.cat([row.sin(), row.cos()], dim=1)[:, None].expand(rows, cols, -1)
    col_part = torch.cat([col.sin(), col.cos()], dim=1)[None].expand(rows, cols, -1)
    table = torch.zeros(rows, cols, width)
    table[..., : 4 * (width // 4)] = torch.cat([row_part, col_part], dim=2)
    return table


def resize_absolute(table: Tensor, rows: int, cols: int) -> Tensor:
    """Interpolate absolute positions to another token grid, as upstream does (bicubic, no antialiasing).

    Args:
        table: (table_rows, table_cols, C).

    Returns:
        (rows, cols, C); the table itself where the sizes agree.
    """
    if table.shape[:2] == (rows, cols):
        return table
    resized = F.interpolate(table.permute(2, 0, 1)[None], size=(rows, cols), mode="bicubic", align_corners=False)
    return resized[0].permute(1, 2, 0)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Look up relative positions for every pair of coordinates along one axis.

    Args:
        table: (2 * S - 1, D), entry S - 1 being distance 0; resized linearly where S differs from `size`.
        size: number of coordinates of queries and keys alike.

    Returns:
        (size, size, D): entry [i, j] is for a query at i and a key at j.
    """
    length = 2 * size - 1
    if len(table) != length:
        table = F.interpolate(table.t()[None], size=length, mode="linear", align_corners=False)[0].t()
    at = torch.arange(size, device=table.device)
    return table[at[:, None] - at[None, :] + size - 1]


def relative_terms(q: Tensor, row_table: Tensor, col_table: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the decomposed relative position bias, for all queries of a grid.

    Their sum over a key's row and column is what is added to the scaled product of query and key; the query is not
    scaled here (upstream's `add_decomposed_rel_pos`).

    Args:
        q: (B, heads, rows * cols, D).
        row_table: (rows, rows, D) from `relative_table`.
        col_table: (cols, cols, D).

    Returns:
        (B, heads, rows * cols, rows) and (B, heads, rows * cols, cols).
    """
    rows, cols = len(row_table), len(col_table)
    grid = q.unflatten(2, (rows, cols))  # (B, heads, rows, cols, D)
    by_row = torch.einsum("bnrcd,rkd->bnrck", grid, row_table)
    by_col = torch.einsum("bnrcd,ckd->bnrck", grid, col_table)
    return by_row.flatten(2, 3), by_col.flatten(2, 3)


def attention_bias(by_row: Tensor, by_col: Tensor) -> Tensor:
    """Add the two terms up for every key: (..., Q, rows) and (..., Q, cols) give (..., Q, rows * cols)."""
    return (by_row[..., :, None] + by_col[..., None, :]).flatten(-2)
