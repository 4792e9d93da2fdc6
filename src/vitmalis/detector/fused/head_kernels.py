"""Triton kernels of the detection head: greedy suppression by bit sets, and RoIAlign on maps (B, H, W, C)."""

# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

WORD_BITS = 32
ROWS_PER_PROGRAM = 64


@triton.jit
def _overlap_words(
    BOX, LABEL, COUNT, WORD, places, words, threshold, ROWS: tl.constexpr, BITS: tl.constexpr
):  # fmt: skip
    """Bit j of word w of row i: box i overlaps box 32 w + j, which is of its label and worse than it."""
    part, row, word = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i = row * ROWS + tl.arange(0, ROWS)
    bit = tl.arange(0, BITS)
    j = word * BITS + bit
    if row * ROWS < tl.load(COUNT + part):
        is_i, is_j = i < places, j < places
        mine, other = BOX + (part * places + i) * 4, BOX + (part * places + j) * 4
        left, right = tl.load(mine, mask=is_i, other=0.0)[:, None], tl.load(mine + 2, mask=is_i, other=0.0)[:, None]
        top, bottom = tl.load(mine + 1, mask=is_i, other=0.0)[:, None], tl.load(mine + 3, mask=is_i, other=0.0)[:, None]
        left_j, right_j = tl.load(other, mask=is_j, other=0.0)[None], tl.load(other + 2, mask=is_j, other=0.0)[None]
        top_j, bottom_j = tl.load(other + 1, mask=is_j, other=0.0)[None], tl.load(other + 3, mask=is_j, other=0.0)[None]
        wide = tl.maximum(tl.minimum(right, right_j) - tl.maximum(left, left_j), 0.0)
        high = tl.maximum(tl.minimum(bottom, bottom_j) - tl.maximum(top, top_j), 0.0)
        both = wide * high
        union = (right - left) * (bottom - top) + (right_j - left_j) * (bottom_j - top_j) - both
        label = tl.load(LABEL + part * places + i, mask=is_i, other=-1)[:, None]
        label_j = tl.load(LABEL + part * places + j, mask=is_j, other=-2)[None]
        over = (both > threshold * union) & (j[None] > i[:, None]) & (label == label_j)
        found = tl.sum(tl.where(over, 1 << bit[None], 0), 1)
        tl.store(WORD + (part * places + i) * words + word, found, mask=is_i)


@triton.jit
def _greedy(OVERLAP, GONE, COUNT, places, WORDS: tl.constexpr, BITS: tl.constexpr):
    """Each box that is not gone marks those that it overlaps as gone, best first."""
    part = tl.program_id(0)
    word = tl.arange(0, WORDS)
    gone = tl.load(GONE + part * WORDS + word)
    for i in range(0, tl.load(COUNT + part)):
        row = tl.load(OVERLAP + (part * places + i) * WORDS + word)
        own = tl.sum(tl.where(word == i // BITS, gone, 0))
        gone = gone | tl.where(((own >> (i % BITS)) & 1) == 0, row, 0)
    tl.store(GONE + part * WORDS + word, gone)


def find_overlaps(boxes: Tensor, labels: Tensor, count: Tensor, threshold: float) -> Tensor:
    """Which boxes each box would suppress, as sets of bits.

    Args:
        boxes: float32 (lists, N, 4), best first.
        labels: int32 (lists, N).
        count: int32 (lists,): rows from here on are left as they are.
        threshold: overlap (IoU) above which the worse box is dropped.

    Returns:
        int32 (lists, N, words), words a power of two.
    """
    lists, places, _ = boxes.shape
    words = triton.next_power_of_2(triton.cdiv(places, WORD_BITS))
    found = torch.empty(lists, places, words, dtype=torch.int32, device=boxes.device)
    grid = lists, triton.cdiv(places, ROWS_PER_PROGRAM), words
    _overlap_words[grid](
        boxes, labels, count, found, places, words, threshold, ROWS=ROWS_PER_PROGRAM, BITS=WORD_BITS, num_warps=4
    )
    return found


def choose_greedily(overlaps: Tensor, gone: Tensor, count: Tensor) -> None:
    """Mark the boxes that better ones suppress; changes `gone` in place.

    Args:
        overlaps: of `find_overlaps`.
        gone: int32 (lists, words), bits of the places without a box.
        count: int32 (lists,): how many places are looked at.
    """
    lists, places, words = overlaps.shape
    _greedy[(lists,)](overlaps, gone, count, places, WORDS=words, BITS=WORD_BITS, num_warps=1)


@triton.jit
def _corner(BASE, y, x, cols, c, is_c, CHANNELS: tl.constexpr):
    return tl.load(BASE + (y * cols + x) * CHANNELS + c, mask=is_c, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=[f"{axis}_{level}" for level in range(4) for axis in ("rows", "cols")])
def _roi_align(
    L0, L1, L2, L3, BOX, OUT, rows_0, cols_0, rows_1, cols_1, rows_2, cols_2, rows_3, cols_3, boxes,
    LEVELS: tl.constexpr, FINEST: tl.constexpr, CANONICAL: tl.constexpr,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """One bin of one box: the mean of bilinear samples, as many along each axis as the bin is cells wide."""
    box, cell = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, WIDTH)
    is_c = c < CHANNELS
    x0, y0 = tl.load(BOX + box * 4), tl.load(BOX + box * 4 + 1)
    x1, y1 = tl.load(BOX + box * 4 + 2), tl.load(BOX + box * 4 + 3)
    side = tl.sqrt((x1 - x0) * (y1 - y0))
    level = tl.floor(4.0 + tl.log2(side / CANONICAL + 1e-8))
    level = tl.minimum(tl.maximum(level, FINEST * 1.0), (FINEST + LEVELS - 1) * 1.0).to(tl.int32) - FINEST
    base = L0
    if level == 1:
        base = L1
    if level == 2:
        base = L2
    if level == 3:
        base = L3
    rows = tl.where(level == 0, rows_0, tl.where(level == 1, rows_1, tl.where(level == 2, rows_2, rows_3)))
    cols = tl.where(level == 0, cols_0, tl.where(level == 1, cols_1, tl.where(level == 2, cols_2, cols_3)))
    base += (box // boxes) * rows * cols * CHANNELS
    scale = 1.0 / ((1 << (level + FINEST)).to(tl.float32))
    left, top = x0 * scale - 0.5, y0 * scale - 0.5
    bin_w, bin_h = (x1 * scale - 0.5 - left) / SIDE, (y1 * scale - 0.5 - top) / SIDE
    count_x, count_y = tl.ceil(bin_w).to(tl.int32), tl.ceil(bin_h).to(tl.int32)
    total = tl.zeros([WIDTH], tl.float32)
    for iy in range(0, count_y):
        y = top + (cell // SIDE) * bin_h + (iy + 0.5) * bin_h / count_y
        for ix in range(0, count_x):
            x = left + (cell % SIDE) * bin_w + (ix + 0.5) * bin_w / count_x
            if (y >= -1.0) & (y <= rows * 1.0) & (x >= -1.0) & (x <= cols * 1.0):
                yy = tl.minimum(tl.maximum(y, 0.0), rows - 1.0)
                xx = tl.minimum(tl.maximum(x, 0.0), cols - 1.0)
                ya, xa = yy.to(tl.int32), xx.to(tl.int32)
                yb, xb = tl.minimum(ya + 1, rows - 1), tl.minimum(xa + 1, cols - 1)
                fy, fx = yy - ya, xx - xa
                total += (1 - fy) * (1 - fx) * _corner(base, ya, xa, cols, c, is_c, CHANNELS)
                total += (1 - fy) * fx * _corner(base, ya, xb, cols, c, is_c, CHANNELS)
                total += fy * (1 - fx) * _corner(base, yb, xa, cols, c, is_c, CHANNELS)
                total += fy * fx * _corner(base, yb, xb, cols, c, is_c, CHANNELS)
    samples = tl.maximum(count_x * count_y, 1)
    out = OUT + (box * SIDE * SIDE + cell).to(tl.int64) * CHANNELS + c
    tl.store(out, (total / samples).to(OUT.dtype.element_ty), mask=is_c)


def roi_align(levels: Sequence[Tensor], finest: int, boxes: Tensor, side: int, canonical_px: float) -> Tensor:
    """Pool boxes from the level that suits their size, as `pooling.pool_boxes` does.

    Args:
        levels: up to four, each (B, H_l, W_l, C), strides 2 ** finest and on.
        finest: logarithm of the first level's stride.
        boxes: float32 (B, P, 4), xyxy in pixels.
        side: bins along each axis.
        canonical_px: side of the boxes that are pooled from stride 16.

    Returns:
        (B * P, side, side, C) in the type of the levels.
    """
    maps = [level.contiguous() for level in levels]
    sizes = [size for level in (*maps, *maps[:1] * (4 - len(maps))) for size in level.shape[1:3]]
    channels, count = maps[0].shape[3], boxes.shape[0] * boxes.shape[1]
    out = torch.empty(count, side, side, channels, dtype=maps[0].dtype, device=boxes.device)
    width = triton.next_power_of_2(channels)
    _roi_align[(count, side * side)](
        *maps, *maps[:1] * (4 - len(maps)), boxes.contiguous(), out, *sizes, boxes.shape[1],
        LEVELS=len(maps), FINEST=finest, CANONICAL=canonical_px,
        CHANNELS=channels, WIDTH=width, SIDE=side, num_warps=1 if width <= 256 else 2,
    )  # fmt: skip
    return out
