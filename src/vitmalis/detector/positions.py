"""Absolute and decomposed relative positions: pure functions on tables.

Ported from detectron2's `get_abs_pos`, `get_rel_pos` and `add_decomposed_rel_pos`:
https://github.com/facebookresearch/detectron2/blob/02b5c4e295e9/detectron2/modeling/backbone/utils.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.rectangle_merge import MergedRectangles, merge_rectangles
from vitmalis.detector.token_layout import Rectangles


def sine_positions(rows: int, cols: int, embed_dim: int) -> Tensor:
    """Sine and cosine positions, the initial values of a learned table: (rows, cols, embed_dim).

    A quarter of the channels each holds sin(row), cos(row), sin(col), cos(col) at falling frequencies; if 4 does not
    divide `embed_dim`, the last channels stay zero.
    """
    frequencies = 10000.0 ** (-torch.arange(embed_dim // 4) / (embed_dim // 4))  # (embed_dim / 4,)
    row = torch.arange(rows)[:, None] * frequencies  # (rows, embed_dim / 4)
    col = torch.arange(cols)[:, None] * frequencies  # (cols, embed_dim / 4)
    row_part = torch.cat([row.sin(), row.cos()], dim=1)[:, None].expand(rows, cols, -1)
    col_part = torch.cat([col.sin(), col.cos()], dim=1)[None].expand(rows, cols, -1)
    table = torch.zeros(rows, cols, embed_dim)
    table[..., : 4 * (embed_dim // 4)] = torch.cat([row_part, col_part], dim=2)
    return table


def resize_absolute(table: Tensor, rows: int, cols: int, antialias: bool = False) -> Tensor:
    """Interpolate absolute positions to another token grid (bicubic).

    Args:
        table: (table_rows, table_cols, C).
        antialias: smooth a table that becomes smaller, as timm does and upstream does not.

    Returns:
        (rows, cols, C); the table itself where the sizes agree.
    """
    if table.shape[:2] == (rows, cols):
        return table
    channels = table.permute(2, 0, 1)[None]
    resized = F.interpolate(channels, size=(rows, cols), mode="bicubic", align_corners=False, antialias=antialias)
    return resized[0].permute(1, 2, 0)


def relative_table(table: Tensor, size: int) -> Tensor:
    """Relative positions of every pair of coordinates along one axis (`get_rel_pos`).

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


def with_coarse(table: Tensor, factor: int) -> Tensor:
    """Add coordinates that stand for `factor` neighbours each, whose relative positions are the mean over them.

    Args:
        table: (size, size, D) from `relative_table`, `size` a multiple of `factor`.

    Returns:
        (size + size / factor,) squared by D: the old coordinates first, then the coarse ones, for queries and keys.
    """
    table = torch.cat([table, table.unflatten(0, (-1, factor)).mean(1)])
    return torch.cat([table, table.unflatten(1, (-1, factor)).mean(2)], dim=1)


class RelativePositions(NamedTuple):
    """Decomposed relative positions between tokens in rectangles.

    The bias of a query and a key is the sum of a term that depends on the key's row and one that depends on its
    column, so all terms of a query are rows + cols numbers and not one for every key.

    Attributes:
        row_table: (row coordinates, row coordinates, D) from `relative_table`.
        col_table: (column coordinates, column coordinates, D).
        parts: where the tokens lie, queries and keys alike.
    """

    row_table: Tensor
    col_table: Tensor
    parts: Sequence[Rectangles]

    def terms(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the terms of all queries (`add_decomposed_rel_pos`), from queries that are not scaled.

        Args:
            q: (B, heads, T, D).

        Returns:
            (B, heads, T, row coordinates) and (B, heads, T, column coordinates).
        """
        by_row, by_col = [], []
        for part, own in zip(self.parts, q.split([part.tokens for part in self.parts], 2), strict=True):
            cells = own.unflatten(2, part.shape)  # (B, heads, n, h, w, D)
            by_row.append(torch.einsum("bmnhwd,nhkd->bmnhwk", cells, self.row_table[part.row_at]).flatten(2, 4))
            by_col.append(torch.einsum("bmnhwd,nwkd->bmnhwk", cells, self.col_table[part.col_at]).flatten(2, 4))
        return joined(by_row, 2), joined(by_col, 2)

    def bias(self, by_row: Tensor, by_col: Tensor, out: Tensor | None = None) -> Tensor:
        """Add up the terms of Q queries for every key: (..., Q, T).

        Args:
            by_row, by_col: (..., Q, row coordinates) and (..., Q, column coordinates).
            out: contiguous memory for the result; only where no gradients are asked for.
        """
        pairs = [
            (_pick(by_row, part.row_at)[..., :, None], _pick(by_col, part.col_at)[..., None, :]) for part in self.parts
        ]
        if out is None:
            return joined([(row + col).flatten(-3) for row, col in pairs], -1)
        places = out.split([part.tokens for part in self.parts], -1)
        for (row, col), place, part in zip(pairs, places, self.parts, strict=True):
            torch.add(row, col, out=place.unflatten(-1, part.shape))
        return out

    def merged(self) -> tuple[RelativePositions, MergedRectangles | None]:
        """The same positions for tokens in the order that makes the bias fastest to add up, and that order.

        The sum runs along the lines of rectangles, and short lines cost three times as much for each key.

        Returns:
            None for the order where the tokens are in it already.
        """
        if len(self.parts) == 1 and self.parts[0].shape[0] == 1:
            return self, None
        merged = merge_rectangles(tuple(self.parts))
        return self._replace(parts=merged.parts), merged


def _pick(terms: Tensor, at: Tensor) -> Tensor:
    """Return `terms[..., at]` for indices (n, m) into the last dimension; `index_select` is four times as fast."""
    return terms.index_select(-1, at.flatten()).unflatten(-1, at.shape)


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate along a dimension, without a copy of a single part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)
