"""Softmax attention with relative positions that never become a tokens x tokens matrix.

PyTorch's fused kernel computes it, except for two uses in bfloat16 on a CPU where plain products are faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.positions import RelativePositions, joined

SMALL_WINDOW = 64
"""Most tokens for which plain products train faster than the fused kernel, in bfloat16 on a CPU."""

PRODUCT_ROWS = 512
"""Query rows of a plain product where there are more tokens: so many rows of weights stay in the cache."""

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
        return plain_attention(q, k, v) if _fused_is_slow(q) else F.scaled_dot_product_attention(q, k, v)
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


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by plain products, many tokens head by head; shapes as of `attention`."""
    q = q * q.shape[-1] ** -0.5
    if q.shape[2] <= SMALL_WINDOW:
        return _products(q, k, v)
    heads = zip(q.split(1, 1), k.split(1, 1), v.split(1, 1), strict=True)
    return torch.cat([_products(*head) for head in heads], 1)


def _products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Products with scaled queries, `PRODUCT_ROWS` at a time."""
    keys = k.transpose(-2, -1)
    return joined([(part @ keys).softmax(dim=-1).to(v.dtype) @ v for part in q.split(PRODUCT_ROWS, 2)], 2)


def _cpu_has(feature: str) -> bool:
    """Whether PyTorch sees an instruction set; false in versions that cannot say."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", lambda: False)())


BF16_WITHOUT_AMX = _cpu_has("avx512_bf16") and not _cpu_has("amx_tile")
"""This CPU multiplies bfloat16, but the fused kernel makes use of that with AMX only."""


def _fused_is_slow(q: Tensor) -> bool:
    """Whether plain products are faster than the fused kernel (measured).

    In training, the kernel's backward pass over windows of 25 tokens takes six times as long. In inference on a CPU
    with bfloat16 but without AMX, it makes a frame of `vitdet_tiny` take 1.2 times as long.
    """
    if q.dtype != torch.bfloat16 or q.device.type != "cpu":
        return False
    small = q.shape[2] <= SMALL_WINDOW
    return small if q.requires_grad else BF16_WITHOUT_AMX and not small
