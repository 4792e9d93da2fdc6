"""The terms of relative positions, which kernels of global attention make before they go through the keys."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl

DISTANCES = tl.constexpr(32)
"""Distances whose terms are computed by one product; with more, programs run out of registers."""


@triton.jit
def store_terms(
    query, first, is_query, table, out, key_stride, length,
    D: tl.constexpr, DP: tl.constexpr, KEY_FACTOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the terms of a tile of queries for all keys along one axis.

    One product with the relative positions of all distances serves all queries; each then keeps those distances at
    which it has a key.

    Args:
        query: (queries, DP), not scaled.
        first: (queries,), the first patch along the axis that each query covers.
        is_query: bool (queries,), which of them to compute.
        table: pointer to (2 * length - 1, D): the relative position of each distance, from 1 - length.
        out: pointers (queries,) to the term for the first key.
        key_stride: from the term of one key to that of the next.
        length: patches along the axis.
        KEY_FACTOR: patches along the side of a key.
    """
    d = tl.arange(0, DP)
    for start in range(0, 2 * length - 1, DISTANCES):
        index = start + tl.arange(0, DISTANCES)
        is_entry = (index < 2 * length - 1)[None, :] & (d < D)[:, None]
        positions = tl.load(table + index[None, :] * D + d[:, None], mask=is_entry, other=0.0)
        terms = tl.dot(query, positions, input_precision=PRECISION)
        patch = first[:, None] + (length - 1) - index[None, :]
        is_key = (patch >= 0) & (patch < length) & (patch % KEY_FACTOR == 0) & is_query[:, None]
        tl.store(out[:, None] + (patch // KEY_FACTOR) * key_stride, terms, mask=is_key)
