"""Attention over all tokens of a frame of two resolutions, a block of keys at a time."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from vitmalis.detector.fused.geometry import LEAST_KEYS, FrameGeometry
from vitmalis.detector.fused.kernels.settings import LaunchSettings, power_of_two, precision
from vitmalis.detector.fused.kernels.softmax import LOWEST, attend
from vitmalis.detector.fused.kernels.terms import store_terms
from vitmalis.detector.fused.slots import DevicePlan

ABSENT = tl.constexpr(-30000.0)
"""Term of keys that do not exist: their weight is zero, and 0 times it is not NaN."""


@triton.jit
def _store_mixed_terms(
    query, cell, terms, ROW_TABLE, COL_TABLE, batch_tokens, rows, cols, FACTOR: tl.constexpr,
    D: tl.constexpr, DP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the terms of a tile of queries for all coordinates of both resolutions."""
    low = cell >= rows * cols
    place = tl.where(low, cell - rows * cols, cell)
    across = tl.where(low, cols // FACTOR, cols)
    side = tl.where(low, FACTOR, 1)
    row = place // across * side
    col = place % across * side
    for query_low in tl.static_range(2):
        is_query = low == (query_low == 1)
        if tl.max(is_query.to(tl.int32), 0) > 0:
            for key_low in tl.static_range(2):
                kind = 2 * query_low + key_low
                row_out = terms + (rows if key_low else 0) * batch_tokens
                col_out = terms + (rows + rows // FACTOR + (cols if key_low else 0)) * batch_tokens
                row_table = ROW_TABLE + kind * (2 * rows - 1) * D
                col_table = COL_TABLE + kind * (2 * cols - 1) * D
                store_terms(
                    query, row, is_query, row_table, row_out, batch_tokens, rows,
                    D, DP, FACTOR if key_low else 1, PRECISION,
                )  # fmt: skip
                store_terms(
                    query, col, is_query, col_table, col_out, batch_tokens, cols,
                    D, DP, FACTOR if key_low else 1, PRECISION,
                )  # fmt: skip
    coordinates = rows + rows // FACTOR + cols + cols // FACTOR
    tl.store(terms + coordinates * batch_tokens, tl.full(cell.shape, ABSENT, tl.float32))


@triton.jit
def _mixed_attention(
    QKV, OUT, ROW_TABLE, COL_TABLE, TERMS, PATTERNS, COUNTS, CELL, BLOCK, COORDINATE,
    plan_stride, frame_tokens, batch_tokens, channels, scale, rows, cols,
    FACTOR: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    RELATIVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for a tile of queries and one head.

    The terms of a block's rows and columns get to its keys by a product with the 0/1 matrix of the block's shape.
    """
    head = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.arange(0, BN)
    d = tl.arange(0, DP)
    c = tl.arange(0, BC)
    is_d = d < D
    frame = tl.program_id(0) * BM // frame_tokens
    first = frame * frame_tokens
    plan = frame * plan_stride
    head_qkv = QKV + head * D
    query = tl.load(head_qkv + m[:, None] * (3 * channels) + d[None, :], mask=is_d[None, :], other=0.0)
    coordinates = rows + rows // FACTOR + cols + cols // FACTOR
    terms = TERMS + head.to(tl.int64) * (coordinates + 1) * batch_tokens + m
    if RELATIVE:
        cell = tl.load(CELL + plan + m - first)
        _store_mixed_terms(query, cell, terms, ROW_TABLE, COL_TABLE, batch_tokens, rows, cols, FACTOR, D, DP, PRECISION)
        tl.debug_barrier()  # other threads of the program read what these wrote
    query = (query.to(tl.float32) * scale).to(query.dtype)
    highest = tl.full([BM], LOWEST, tl.float32)
    total = tl.zeros([BM], tl.float32)
    attended = tl.zeros([BM, DP], tl.float32)
    for block in range(0, tl.load(COUNTS + plan + 2)):
        start = tl.load(BLOCK + plan + block * 4)
        is_n = n < tl.load(BLOCK + plan + block * 4 + 1)
        at = channels + (first + start + n) * (3 * channels)
        key = tl.load(head_qkv + at[None, :] + d[:, None], mask=is_n[None, :] & is_d[:, None], other=0.0)
        scores = tl.dot(query, key, input_precision=PRECISION)
        if RELATIVE:
            shape = tl.load(BLOCK + plan + block * 4 + 2)
            coordinate = tl.load(COORDINATE + plan + block * BC + c)
            own = tl.load(terms[None, :] + coordinate[:, None] * batch_tokens)  # (BC, BM)
            pattern = tl.load(PATTERNS + shape * (BC * BN) + c[:, None] * BN + n[None, :])  # (BC, BN)
            scores = tl.dot(tl.trans(own), pattern, scores, input_precision=PRECISION)
        else:
            scores = tl.where(is_n[None, :], scores, ABSENT)
        value = tl.load(head_qkv + channels + at[:, None] + d[None, :], mask=is_n[:, None] & is_d[None, :], other=0.0)
        highest, total, attended = attend(scores, 0.0, value, highest, total, attended, PRECISION)
    tl.store(OUT + head * D + m[:, None] * channels + d[None, :], attended / total[:, None], mask=is_d[None, :])


def mixed_attention(
    qkv: Tensor, tables: tuple[Tensor, Tensor] | None, patterns: Tensor, plan: DevicePlan, geometry: FrameGeometry,
    heads: int, settings: LaunchSettings, terms: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """Attend over all tokens of each frame.

    Args:
        qkv: (B * tokens, 3C).
        tables: relative positions of rows and of columns from `distance_tables`; None for none.
        patterns: `block_patterns` in the type of `qkv`.
        plan: of each frame.
        geometry: of the frames.
        heads: attention heads.
        settings: how the kernel is launched.
        terms: memory for heads * (coordinates + 1) * B * tokens numbers.
        out: (B * tokens, C).
    """
    channels = out.shape[1]
    width, tile = channels // heads, settings.mixed
    row_table, col_table = tables or (qkv, qkv)
    _mixed_attention[(len(qkv) // tile.queries, heads)](
        qkv, out, row_table, col_table, terms, patterns, plan.counts, plan.cell, plan.block, plan.coordinate,
        plan.stride, plan.tokens, len(qkv), channels, width**-0.5, geometry.full.rows, geometry.full.cols,
        FACTOR=geometry.grid.factor, D=width, DP=power_of_two(width, LEAST_KEYS), BM=tile.queries,
        BN=patterns.shape[2], BC=patterns.shape[1], RELATIVE=tables is not None, PRECISION=precision(qkv.dtype),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
