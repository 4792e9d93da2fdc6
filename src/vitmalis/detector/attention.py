"""Softmax attention by fused kernels, with relative positions that never become a tokens x tokens matrix."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.positions import RelativePositions, joined

SHORT = 64
"""Tokens up to which plain products train faster than the fused kernel."""


def _cpu_has(feature: str) -> bool:
    """Whether PyTorch sees an instruction set; not every version that we run on can tell, and then it is not used."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", lambda: False)())


BF16_PRODUCTS = _cpu_has("avx512_bf16") and not _cpu_has("amx_tile")
"""This CPU multiplies bfloat16, but PyTorch's fused kernel makes use of that only where there is AMX."""

BIAS_ELEMENTS = 1 << 24
"""Elements of the bias that are built at a time, unless one head has more: 64 MB in fp32."""

PRODUCTS_TOKENS = 512
"""Tokens above which plain products predict faster than the fused kernel with a bias, on a CPU in fp32."""

PRODUCTS_ROWS = 128
"""Query rows of such a product, for each thread."""


def attend(q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions | None, chunk: int = 768) -> Tensor:
    """Softmax attention, with the bias of relative positions built for a few heads and `chunk` query rows at a time.

    The bias of all rows at once would be the tokens x tokens matrix that fused attention exists to avoid.

    Args:
        q, k, v: (B, heads, T, D).
        relative: relative positions of the T tokens, or None.
        chunk: least query rows per call of the fused kernel, if there are so many; PyTorch's takes 256 at a time where
            it is given 768 and 64 where it is given fewer (measured: a fifth faster).

    Returns:
        (B, heads, T, D).
    """
    if relative is None:
        if q.shape[2] <= SHORT:
            return attend_short(q, k, v) if q.requires_grad else F.scaled_dot_product_attention(q, k, v)
        by_products = BF16_PRODUCTS and q.dtype == torch.bfloat16 and q.device.type == "cpu" and not q.requires_grad
        return attend_by_products(q, k, v) if by_products else F.scaled_dot_product_attention(q, k, v)
    relative, bands = relative.in_bands()
    if bands is not None:
        q, k, v = (part.index_select(2, bands.order) for part in (q, k, v))
    batch, heads, tokens, _ = q.shape
    rows = -(-tokens // max(1, tokens // chunk))
    together = max(1, min(heads, BIAS_ELEMENTS // (batch * rows * tokens)))
    split = zip(q.split(together, 1), k.split(together, 1), v.split(together, 1), strict=True)
    how = _by_products if tokens > PRODUCTS_TOKENS and _predicts_on_cpu(q) else partial(_fused, rows=rows)
    mixed = joined([how(*part, relative) for part in split], 1)
    return mixed if bands is None else mixed.index_select(2, bands.places)


def _predicts_on_cpu(q: Tensor) -> bool:
    return q.device.type == "cpu" and q.dtype == torch.float32 and not q.requires_grad


def _by_products(q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions) -> Tensor:
    """Products with one head's keys and values, `PRODUCTS_ROWS` query rows at a time, on top of their bias in place.

    PyTorch's fused kernel on a CPU reads the bias in a pass of its own; here it is where the product adds up. A fifth
    less time than the fused kernel's for 2040 tokens, and never more from 512 on (measured, one thread).
    """
    by_row, by_col = relative.terms(q)
    rows = PRODUCTS_ROWS * torch.get_num_threads()
    memory = q.new_empty(rows, q.shape[2])
    scaled = q * q.shape[3] ** -0.5
    mixed = q.new_empty(v.shape)
    for at in np.ndindex(*q.shape[:2]):
        keys, values = k[at].contiguous().t(), v[at].contiguous()
        split = (part[at].split(rows) for part in (scaled, by_row, by_col, mixed))
        for part, row, col, own in zip(*split, strict=True):
            weights = relative.bias(row, col, memory[: len(part)]).addmm_(part, keys)
            torch.mm(torch.softmax(weights, dim=-1, out=weights), values, out=own)
    return mixed


def _fused(q: Tensor, k: Tensor, v: Tensor, relative: RelativePositions, rows: int) -> Tensor:
    """`rows` query rows at a time, whose bias all have one place in memory unless gradients are asked for."""
    by_row, by_col = relative.terms(q)
    tokens = q.shape[2]
    memory = None if by_row.requires_grad else by_row.new_empty(*q.shape[:2], rows, tokens)
    mixed = []
    for part, row, col in zip(q.split(rows, 2), by_row.split(rows, 2), by_col.split(rows, 2), strict=True):
        place = None if memory is None else memory[:, :, : part.shape[2]]
        mixed.append(F.scaled_dot_product_attention(part, k, v, attn_mask=relative.bias(row, col, place)))
    return joined(mixed, 2)


def attend_short(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same without relative positions by two plain products, for training with small windows.

    On the CPU the fused kernel's backward pass over windows of 25 tokens takes 5 times as long in bfloat16.
    """
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, T, T)
    return weights.to(v.dtype) @ v


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, rows: int = 512) -> Tensor:
    """The same without relative positions by two products for each head and `rows` query rows, for many tokens.

    In bfloat16 on a CPU, 2040 tokens take three quarters of the fused kernel's time. So many rows of weights stay in
    the cache; there is never a tokens x tokens matrix.
    """
    q = q.flatten(0, 1) * q.shape[-1] ** -0.5
    keys, values = k.flatten(0, 1).transpose(1, 2).contiguous(), v.flatten(0, 1).contiguous()
    mixed = torch.empty_like(values)
    for head in range(len(q)):
        for part, own in zip(q[head].split(rows), mixed[head].split(rows), strict=True):
            torch.mm((part @ keys[head]).softmax(dim=-1).to(values.dtype), values[head], out=own)
    return mixed.view(v.shape)
