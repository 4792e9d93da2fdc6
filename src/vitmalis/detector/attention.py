"""Softmax attention by PyTorch's fused kernel, with relative positions that never become a tokens x tokens matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.positions import RelativePositions, joined

SMALL_WINDOW = 64
"""Most tokens for which two plain products train faster than the fused kernel, in bfloat16 on a CPU."""

QUERY_ROWS = 768
"""Least query rows in a call of the fused kernel, if there are so many: PyTorch's takes 256 at a time where it is given
768, and 64 where it is given fewer (measured: a fifth faster)."""

BIAS_ELEMENTS = 1 << 24
"""Most elements of the bias that are built at a time, unless one head has more: 64 MB in fp32."""


def attention(
    q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions | None, query_rows: int = QUERY_ROWS
) -> Tensor:
    """Softmax attention, biased by relative positions where there are any.

    The bias is built for a few heads and `query_rows` at a time. Built for all together it would be the tokens x tokens
    matrix that fused attention exists to avoid.

    Args:
        q, k, v: (B, heads, T, D).
        relative: relative positions of the T tokens, or None.
        query_rows: see `QUERY_ROWS`.

    Returns:
        (B, heads, T, D).
    """
    if relative is None:
        return plain_attention(q, k, v) if _trains_slowly(q) else F.scaled_dot_product_attention(q, k, v)
    relative, merged = relative.merged()
    if merged is not None:
        q, k, v = (part.index_select(2, merged.order) for part in (q, k, v))
    batch, heads, tokens, _ = q.shape
    rows = -(-tokens // max(1, tokens // query_rows))
    heads_at_once = max(1, min(heads, BIAS_ELEMENTS // (batch * rows * tokens)))
    groups = zip(q.split(heads_at_once, 1), k.split(heads_at_once, 1), v.split(heads_at_once, 1), strict=True)
    attended = joined([_biased_attention(*group, relative, rows) for group in groups], 1)
    return attended if merged is None else attended.index_select(2, merged.places)


def _biased_attention(q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions, rows: int) -> Tensor:
    """Fused attention for `rows` query rows at a time; their biases share memory unless gradients are asked for."""
    by_row, by_col = relative.terms(q)
    memory = None if by_row.requires_grad else by_row.new_empty(*q.shape[:2], rows, q.shape[2])
    attended = []
    for part, row, col in zip(q.split(rows, 2), by_row.split(rows, 2), by_col.split(rows, 2), strict=True):
        place = None if memory is None else memory[:, :, : part.shape[2]]
        attended.append(F.scaled_dot_product_attention(part, k, v, attn_mask=relative.bias(row, col, place)))
    return joined(attended, 2)


def _trains_slowly(q: Tensor) -> bool:
    """Whether the fused kernel's backward pass is slow: six times as long for windows of 25 tokens (measured)."""
    return q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[2] <= SMALL_WINDOW


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by two plain products, for training with small windows; shapes as of `attention`."""
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, T, T)
    return weights.to(v.dtype) @ v
