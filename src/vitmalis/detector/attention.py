"""Softmax attention by fused kernels, with relative positions that never become a tokens x tokens matrix."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.positions import RelativePositions, joined

SHORT = 64
"""Tokens up to which plain products train faster than the fused kernel."""


def attend(q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions | None, chunk: int = 256) -> Tensor:
    """Softmax attention, with the bias of relative positions built for `chunk` query rows at a time.

    The bias of all rows at once would be the tokens x tokens matrix that fused attention exists to avoid.

    Args:
        q, k, v: (B, heads, T, D).
        relative: relative positions of the T tokens, or None.
        chunk: query rows per call of the fused kernel.

    Returns:
        (B, heads, T, D).
    """
    if relative is None:
        fused = not (q.requires_grad and q.shape[2] <= SHORT)
        return F.scaled_dot_product_attention(q, k, v) if fused else attend_short(q, k, v)
    by_row, by_col = relative.terms(q)
    return joined(
        [
            F.scaled_dot_product_attention(part, k, v, attn_mask=relative.bias(rows, cols))
            for part, rows, cols in zip(q.split(chunk, 2), by_row.split(chunk, 2), by_col.split(chunk, 2), strict=True)
        ],
        2,
    )


def attend_short(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same without relative positions by two plain products, for training with small windows.

    On the CPU the fused kernel's backward pass over windows of 25 tokens takes 5 times as long in bfloat16.
    """
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, T, T)
    return weights.to(v.dtype) @ v
