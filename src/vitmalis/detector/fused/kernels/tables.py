"""Relative positions laid out for the kernels: by the distance between a query and a key, not for every pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.fused.support import MAX_FUSED_WINDOW


def by_distance(table: Tensor) -> Tensor:
    """Take the entry of each distance.

    Args:
        table: (n, n, D) from `relative_table`, for a query at the first index and a key at the second.

    Returns:
        (2n - 1, D), by query minus key, from 1 - n.
    """
    return torch.cat([table[0].flip(0), table[1:, 0]])


def window_table(row_table: Tensor, col_table: Tensor) -> Tensor:
    """Lay out relative positions inside windows.

    Args:
        row_table, col_table: (w, w, D) from `relative_table`.

    Returns:
        (4 * MAX_FUSED_WINDOW, D): the distances of rows, and those of columns in the second half.
    """
    halves = [by_distance(table) for table in (row_table, col_table)]
    return torch.cat([F.pad(half, (0, 0, 0, 2 * MAX_FUSED_WINDOW - len(half))) for half in halves])


def distance_tables(table: Tensor, factor: int) -> Tensor:
    """Relative positions along one axis of a frame, for queries and keys of both resolutions.

    A token that covers `factor` patches has the mean over them, as `with_coarse` has it.

    Args:
        table: (n, n, D) from `relative_table`, n patches along the axis.
        factor: patches along the side of a low-resolution token.

    Returns:
        (2, 2, 2n - 1, D): for queries at full and at low resolution, then for keys at either, by the distance between
        the first patches of the two, from 1 - n.
    """
    full = by_distance(table)
    at = torch.arange(len(full), device=table.device)

    def mean(offsets: list[int]) -> Tensor:
        return torch.stack([full[(at + offset).clamp(0, len(full) - 1)] for offset in offsets]).mean(0)

    inside = range(factor)
    low_key, low_query = mean([-key for key in inside]), mean(list(inside))
    both = mean([query - key for query in inside for key in inside])
    return torch.stack([full, low_key, low_query, both]).unflatten(0, (2, 2))
