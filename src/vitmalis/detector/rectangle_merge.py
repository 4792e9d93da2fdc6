"""Few wide rectangles of tokens out of many small ones: attention does not mind the order of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vitmalis.detector.token_layout import Rectangles


class Bands(NamedTuple):
    """Tokens of many rectangles in the order of few and wide ones.

    Attributes:
        parts: the few.
        order: int64 (T,): the old place of each token.
        places: int64 (T,): the new place of each token.
    """

    parts: tuple[Rectangles, ...]
    order: Tensor
    places: Tensor


Piece = tuple[Tensor, Tensor, Tensor]
"""One rectangle: its rows (h,), its columns (w,) and its tokens (h, w)."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made while predicting must serve training as well
def in_bands(parts: tuple[Rectangles, ...]) -> Bands:
    """Join rectangles that cover the same rows side by side, then those that cover the same columns one below another.

    Regions of a row of regions share their rows, so what is left is at most two rectangles (one a resolution) for
    each row of regions.
    """
    ids = torch.arange(sum(part.tokens for part in parts), device=parts[0].row_at.device)
    pieces: list[Piece] = []
    for part, own in zip(parts, ids.split([part.tokens for part in parts]), strict=True):
        pieces += zip(part.row_at, part.col_at, own.view(part.shape), strict=True)
    wide = [_side_by_side(group) for group in _alike(pieces, 0)]
    joint = [_one_below_another(group) for group in _alike(wide, 1)]
    order = torch.cat([tokens.flatten() for _, _, tokens in joint])
    return Bands(tuple(Rectangles(rows[None], cols[None]) for rows, cols, _ in joint), order, order.argsort())


def _alike(pieces: Sequence[Piece], axis: int) -> list[list[Piece]]:
    """Pieces with the same rows (axis 0) or columns (axis 1), together."""
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
