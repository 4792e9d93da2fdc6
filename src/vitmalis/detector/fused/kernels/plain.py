"""Attention over all patches of a frame at full resolution, a line of keys at a time."""

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


@triton.jit
def _plain_attention(
    QKV, OUT, ROW_TABLE, COL_TABLE, ROW_TERMS, COL_TERMS,
    frame_tokens, batch_tokens, channels, scale, rows,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, SEGMENTS: tl.constexpr, WIDTH: tl.constexpr,
    COLS: tl.constexpr, STRIDE: tl.constexpr, RELATIVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for a tile of queries and one head.

    Keys along a segment of a line differ in their column only, so the terms of columns are what the scores start from,
    for every line, and the term of the row is one number for each query.
    """
    head = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.arange(0, BN)
    d = tl.arange(0, DP)
    is_d = d < D
    first = tl.program_id(0) * BM // frame_tokens * frame_tokens
    head_qkv = QKV + head * D
    query = tl.load(head_qkv + m[:, None] * (3 * channels) + d[None, :], mask=is_d[None, :], other=0.0)
    row_terms = ROW_TERMS + head.to(tl.int64) * rows * batch_tokens + m
    col_terms = COL_TERMS + head.to(tl.int64) * STRIDE * batch_tokens + m * STRIDE
    if RELATIVE:
        row = tl.minimum((m - first) // COLS, rows - 1)
        is_m = m >= 0
        store_terms(query, row, is_m, ROW_TABLE, row_terms, batch_tokens, rows, D, DP, 1, PRECISION)
        store_terms(query, (m - first) % COLS, is_m, COL_TABLE, col_terms, 1, COLS, D, DP, 1, PRECISION)
        tl.debug_barrier()  # other threads of the program read what these wrote
    query = (query.to(tl.float32) * scale).to(query.dtype)
    highest = tl.full([BM], LOWEST, tl.float32)
    total = tl.zeros([BM], tl.float32)
    attended = tl.zeros([BM, DP], tl.float32)
    for segment in tl.static_range(SEGMENTS):
        is_n = (n < WIDTH) & (segment * WIDTH + n < COLS)
        if RELATIVE:
            tile = tl.load(col_terms[:, None] + segment * WIDTH + n[None, :], mask=is_n[None, :], other=LOWEST)
            row_term = tl.load(row_terms).to(tl.float32)
        else:
            tile = tl.where(is_n[None, :], tl.zeros([BM, BN], tl.float32), LOWEST).to(query.dtype)
            row_term = tl.zeros([BM], tl.float32)
        at = head_qkv + channels + (first + segment * WIDTH) * (3 * channels)
        at_key = at + n[None, :] * (3 * channels) + d[:, None]
        at_value = at + channels + n[:, None] * (3 * channels) + d[None, :]
        for line in range(0, rows):
            key = tl.load(at_key, mask=is_d[:, None], other=0.0)
            scores = tl.dot(query, key, tile.to(tl.float32), input_precision=PRECISION)
            value = tl.load(at_value, mask=is_d[None, :], other=0.0)
            highest, total, attended = attend(scores, row_term, value, highest, total, attended, PRECISION)
            if RELATIVE:  # the next line's; after the last one it is not used
                row_term = tl.load(row_terms + tl.minimum(line + 1, rows - 1) * batch_tokens).to(tl.float32)
            at_key += COLS * (3 * channels)
            at_value += COLS * (3 * channels)
    tl.store(OUT + head * D + m[:, None] * channels + d[None, :], attended / total[:, None], mask=is_d[None, :])


def plain_attention(
    qkv: Tensor, tables: tuple[Tensor, Tensor] | None, plan: DevicePlan, geometry: FrameGeometry, heads: int,
    settings: LaunchSettings, terms: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """Attend over all patches of each frame, tokens in raster order.

    Args:
        qkv: (B * tokens, 3C).
        tables: relative positions of rows and of columns, the first entry of `distance_tables`; None for none.
        plan: the plan of frames without downsampled regions.
        geometry: of the frames.
        heads: attention heads.
        settings: how the kernel is launched.
        terms: memory for heads * (rows + the line's stride) * B * tokens numbers.
        out: (B * tokens, C).
    """
    rows, channels = geometry.full.rows, out.shape[1]
    width, tile, line = channels // heads, settings.plain, geometry.line
    row_table, col_table = tables or (qkv, qkv)
    _plain_attention[(len(qkv) // tile.queries, heads)](
        qkv, out, row_table, col_table, terms, terms[heads * rows * len(qkv) :],
        plan.tokens, len(qkv), channels, width**-0.5, rows,
        D=width, DP=power_of_two(width, LEAST_KEYS), BM=tile.queries, BN=line.keys,
        SEGMENTS=line.segments, WIDTH=line.width, COLS=geometry.full.cols, STRIDE=line.stride,
        RELATIVE=tables is not None, PRECISION=precision(qkv.dtype),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
