"""Attention inside windows: tokens gathered, biased by relative positions, and put back by one kernel."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from vitmalis.detector.fused.geometry import LEAST_KEYS, FrameGeometry
from vitmalis.detector.fused.kernels.settings import LaunchSettings, power_of_two, precision
from vitmalis.detector.fused.kernels.softmax import LOG2E, LOWEST
from vitmalis.detector.fused.slots import DevicePlan
from vitmalis.detector.fused.support import MAX_FUSED_WINDOW

AXIS = tl.constexpr(MAX_FUSED_WINDOW)
"""Columns of the terms for each axis."""

NARROW_SLOTS = 128
"""Slots of a window that the setting `window` is for."""


@triton.jit
def _window_terms(
    query, row, col, TABLE, W: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """Compute the terms of queries (BM, DP) for the rows of keys, then from `AXIS` for the columns: (BM, 2 * AXIS).

    One product with the relative positions of all distances on both axes, of which each query then picks its own.
    """
    distance = tl.arange(0, 4 * AXIS)
    d = tl.arange(0, DP)
    table = tl.load(TABLE + distance[None, :] * D + d[:, None], mask=(d < D)[:, None], other=0.0)
    terms = tl.dot(query, table, input_precision=PRECISION)
    key = tl.arange(0, 2 * AXIS)[None, :]
    at = W - 1 + tl.where(key < AXIS, row[:, None] - key, 2 * AXIS + col[:, None] - (key - AXIS))
    return tl.gather(terms, tl.minimum(tl.maximum(at, 0), 4 * AXIS - 1), 1).to(query.dtype)


@triton.jit
def _window_attention(
    QKV, OUT, TABLE, COUNTS, WINDOW, TOKEN,
    plan_stride, frame_tokens, channels, scale, full_windows, full_across, rows, cols, low_rows, low_cols, region_cols,
    W: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    RELATIVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for some queries of one window, one head and one frame."""
    SLOTS: tl.constexpr = W * W
    TILES: tl.constexpr = (SLOTS + BM - 1) // BM
    head = tl.program_id(0)
    frame = tl.program_id(2) // TILES
    plan = frame * plan_stride
    if tl.program_id(1) < tl.load(COUNTS + plan + 1):
        number = tl.load(WINDOW + plan + tl.program_id(1))
        low = number >= full_windows
        number = tl.where(low, number - full_windows, number)
        across = tl.where(low, region_cols, full_across)
        end_row = tl.where(low, low_rows, rows)
        end_col = tl.where(low, low_cols, cols)
        cells = TOKEN + plan + tl.where(low, rows * cols, 0)
        top = number // across * W
        left = number % across * W

        n = tl.arange(0, BN)
        m = (tl.program_id(2) % TILES) * BM + tl.arange(0, BM)
        d = tl.arange(0, DP)
        row_n, col_n = n // W, n % W
        row_m, col_m = m // W, m % W
        is_n = (n < SLOTS) & (top + row_n < end_row) & (left + col_n < end_col)
        is_m = (m < SLOTS) & (top + row_m < end_row) & (left + col_m < end_col)
        first = frame * frame_tokens
        empty = frame_tokens - 1  # its queries, keys and values are their bias, as those of detectron2's padding
        token_n = first + tl.load(cells + (top + row_n) * end_col + left + col_n, mask=is_n, other=empty)
        token_m = first + tl.load(cells + (top + row_m) * end_col + left + col_m, mask=is_m, other=empty)

        head_qkv = QKV + head * D
        is_d = d < D
        query = tl.load(head_qkv + token_m[:, None] * (3 * channels) + d[None, :], mask=is_d[None, :], other=0.0)
        key = tl.load(
            head_qkv + channels + token_n[None, :] * (3 * channels) + d[:, None], mask=is_d[:, None], other=0.0
        )
        value = tl.load(
            head_qkv + 2 * channels + token_n[:, None] * (3 * channels) + d[None, :], mask=is_d[None, :], other=0.0
        )
        scores = tl.dot((query.to(tl.float32) * scale).to(query.dtype), key, input_precision=PRECISION)
        if RELATIVE:
            terms = _window_terms(query, row_m, col_m, TABLE, W, D, DP, PRECISION)
            a = tl.arange(0, 2 * AXIS)
            has = (a[:, None] == row_n[None, :]) | (a[:, None] - AXIS == col_n[None, :])
            scores = tl.dot(terms, has.to(tl.float32).to(query.dtype), scores, input_precision=PRECISION)
        scores = tl.where((n < SLOTS)[None, :], scores, LOWEST)
        weights = tl.exp2((scores - tl.max(scores, 1)[:, None]) * LOG2E)
        attended = tl.dot(weights.to(value.dtype), value, input_precision=PRECISION) / tl.sum(weights, 1)[:, None]
        at = OUT + head * D + token_m[:, None] * channels + d[None, :]
        tl.store(at, attended, mask=is_m[:, None] & is_d[None, :])


def window_attention(
    qkv: Tensor, table: Tensor | None, plan: DevicePlan, geometry: FrameGeometry, heads: int, settings: LaunchSettings,
    out: Tensor,
) -> None:  # fmt: skip
    """Attend inside the windows of a plan.

    Args:
        qkv: (B * tokens, 3C).
        table: relative positions from `window_table`, in the type of `qkv`; None for none.
        plan: of each frame.
        geometry: of the frames.
        heads: attention heads.
        settings: how the kernel is launched.
        out: (B * tokens, C); rows of tokens that are in no window stay as they are.
    """
    window, channels = geometry.grid.window, out.shape[1]
    slots, width = window * window, channels // heads
    tile = settings.window if slots <= NARROW_SLOTS else settings.wide_window
    queries = min(tile.queries, power_of_two(slots, LEAST_KEYS))
    programs = (heads, len(geometry.window_region), -(-slots // queries) * plan.batch)
    _window_attention[programs](
        qkv, out, qkv if table is None else table, plan.counts, plan.window, plan.token,
        plan.stride, plan.tokens, channels, width**-0.5,
        len(geometry.window_region), -(-geometry.full.cols // window), geometry.full.rows, geometry.full.cols,
        geometry.low.rows, geometry.low.cols, geometry.grid.shape[1],
        W=window, D=width, DP=power_of_two(width, LEAST_KEYS), BM=queries, BN=power_of_two(slots, LEAST_KEYS),
        RELATIVE=table is not None, PRECISION=precision(qkv.dtype), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
