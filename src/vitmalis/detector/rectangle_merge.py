"""Merging of many small rectangles of tokens into few large ones.

The result of attention does not depend on the order of tokens, but the bias of relative positions is fastest to add up
along long lines of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vitmalis.detector.token_layout import Rectangles


class MergedRectangles(NamedTuple):
    """Tokens of many rectangles in the order of a few large ones.

    Attributes:
        parts: the large rectangles.
        order: int64 (T,): the old place of each token.
        places: int64 (T,): the new place of each token.
    """

    parts: tuple[Rectangles, ...]
    order: Tensor
    places: Tensor


Piece = tuple[Tensor, Tensor, Tensor]
"""One rectangle: its rows (h,), its columns (w,) and its tokens (h, w)."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # tensors made while predicting must serve training as well
def merge_rectangles(parts: tuple[Rectangles, ...]) -> MergedRectangles:
    """Join rectangles of the same rows side by side, then those of the same columns one below another.

    Regions of a row of regions share their rows, so at most two rectangles remain (one for each resolution) for each
    row of regions.
    """
    ids = torch.arange(sum(part.tokens for part in parts), device=parts[0].row_at.device)
    pieces: list[Piece] = []
    for part, own in zip(parts, ids.split([part.tokens for part in parts]), strict=True):
        pieces += zip(part.row_at, part.col_at, own.view(part.shape), strict=True)
    wide = [_side_by_side(group) for group in _groups(pieces, 0)]
    joint = [_one_below_another(group) for group in _groups(wide, 1)]
    order = torch.cat([tokens.flatten() for _, _, tokens in joint])
    return MergedRectangles(
        tuple(Rectangles(rows[None], cols[None]) for rows, cols, _ in joint), order, order.argsort()
    )


def _groups(pieces: Sequence[Piece], axis: int) -> list[list[Piece]]:
    """Group pieces with the same rows (axis 0) or columns (axis 1)."""
    groups: dict[tuple[int, ...], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(tuple(piece[axis].tolist()), []).append(piece)
    return list(groups.values())


def _side_by_side(pieces: Sequence[Piece]) -> Piece:
    rows, cols, tokens = zip(*pieces, strict=True)
    return rows[0], torch.cat(cols), torch.cat(tokens, dim=1)


def _one_below_another(pieces: Sequence[Piece]) -> Piece:
    rows, cols, tokens = zip(*pieces, strict=True)
    return torch.cat(rows), cols[0], torch.cat(tokens, dim=0)
