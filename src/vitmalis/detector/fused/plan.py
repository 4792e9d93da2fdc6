"""The plan of a mask: one buffer of integers that holds every index which the kernels of a frame read.

It is made with NumPy in well under a millisecond and copied to the device once. A plan says which cell each token has
and where its pixels lie, which windows there are, and which blocks of keys global attention goes through. Tokens are in
the order of those blocks, not in the order in which a client sends patches.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitmalis.detector.fused.geometry import BLOCK_COORDINATES, CellGrid, FrameGeometry, band_blocks
from vitmalis.regions.grid import Int64Array
from vitmalis.types import BoolMask

Int32Array = NDArray[np.int32]

PLAIN = 0
"""The bucket of frames without downsampled regions."""

CACHED_PLANS = 128
"""Plans that are kept for masks that repeat, some 200 KB each at 1080p."""

ALIGNMENT = 32
"""Integers that the parts of a plan are aligned to: a line of a GPU's cache."""


class Counts(NamedTuple):
    """How much of a plan is in use, its first integers."""

    tokens: int
    windows: int
    blocks: int


class Section(NamedTuple):
    """A part of a plan: where it starts, and its shape."""

    start: int
    shape: tuple[int, ...]

    def view(self, plan: Int32Array) -> Int32Array:
        """The part of a plan."""
        return plan[self.start : self.start + math.prod(self.shape)].reshape(self.shape)


class Sections(NamedTuple):
    """The parts of a plan of one bucket.

    Attributes:
        counts: `Counts`.
        cell: (tokens,) the cell of each token; 0 for tokens that do not exist.
        patch: (tokens,) the patch that holds its pixels, in the order in which a client sends them.
        token: (cells,) the token in each cell, or -1.
        window: (windows,) numbers of the windows that hold tokens: those of patches, then one for each region.
        block: (blocks, 4) first token, number of tokens, and shape of each block of keys.
        coordinate: (blocks, BLOCK_COORDINATES) the coordinates of each block of keys.
    """

    counts: Section
    cell: Section
    patch: Section
    token: Section
    window: Section
    block: Section
    coordinate: Section

    @property
    def length(self) -> int:
        """Number of integers in a plan."""
        return _aligned(self[-1].start + math.prod(self[-1].shape))


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def bucket_of(geometry: FrameGeometry, mask: BoolMask | None) -> int:
    """The bucket of a mask: its number of tokens, rounded up, or `PLAIN` where no region is downsampled.

    Raises:
        UserError: the mask does not fit the grid.
    """
    if mask is None or not geometry.grid.check(mask).any():
        return PLAIN
    return rounded_tokens(geometry, geometry.grid.tokens(mask))


def rounded_tokens(geometry: FrameGeometry, tokens: int) -> int:
    """Round up to a bucket that has a token to spare: the last token is never a real one."""
    return -(-(tokens + 1) // geometry.bucket_tokens) * geometry.bucket_tokens


def mask_buckets(geometry: FrameGeometry) -> list[int]:
    """The buckets of all masks that downsample a region, the smallest first."""
    patches, counts = np.unique(geometry.grid.region_patches, return_counts=True)
    saved = patches - patches // geometry.grid.factor**2  # by a low region of each shape
    sums = np.zeros(1, np.int64)
    for each, count in zip(saved, counts, strict=True):
        sums = np.unique(sums[:, None] + each * np.arange(count + 1))
    if geometry.grid.factor > 1:
        sums = sums[1:]  # without the mask of no region
    return sorted({rounded_tokens(geometry, geometry.patches - each) for each in sums.tolist()})


def bucket_tokens(geometry: FrameGeometry, bucket: int) -> int:
    """Rows of a frame in tensors of tokens, those included that hold no token.

    Plain attention reads whole segments of lines, so there has to be room behind the last line, and in any case for the
    empty token, which also frames need whose lines are whole segments.
    """
    if bucket != PLAIN:
        return bucket
    beyond = geometry.line.end - geometry.full.cols
    return rounded_tokens(geometry, geometry.patches + max(0, beyond - 1))


@lru_cache(maxsize=256)
def plan_sections(geometry: FrameGeometry, bucket: int) -> Sections:
    """Where the parts of the plans of a bucket lie."""
    tokens = bucket_tokens(geometry, bucket)
    blocks = geometry.max_blocks if bucket != PLAIN else 0
    sizes: dict[str, tuple[int, ...]] = {
        "counts": (len(Counts._fields),),
        "cell": (tokens,),
        "patch": (tokens,),
        "token": (geometry.cells,),
        "window": (len(geometry.window_region),),
        "block": (blocks, 4),
        "coordinate": (blocks, BLOCK_COORDINATES),
    }
    found, start = [], 0
    for name in Sections._fields:
        found.append(Section(start, sizes[name]))
        start += _aligned(math.prod(sizes[name]))
    return Sections(*found)


def mask_plan(geometry: FrameGeometry, mask: BoolMask | None, bucket: int) -> Int32Array:
    """The plan of a mask; recent plans are cached.

    Args:
        geometry: of the frame.
        mask: bool (rows, cols) of regions, True for low resolution; None for none.
        bucket: `PLAIN` if no region is low, or at least the number of tokens plus one.

    Returns:
        int32 (sections.length,), not to be written to.

    Raises:
        UserError: the mask does not fit the grid.
    """
    if bucket == PLAIN:
        return _plain_plan(geometry)
    checked = np.zeros(geometry.grid.shape, np.bool_) if mask is None else geometry.grid.check(mask)
    return _mixed_plan(geometry, checked.tobytes(), bucket)


@lru_cache(maxsize=16)
def _plain_plan(geometry: FrameGeometry) -> Int32Array:
    """Tokens in raster order, all windows, and no blocks: plain attention goes through lines of patches."""
    keys = KeyBlocks.none(np.arange(geometry.patches))
    patch_cells = np.concatenate([group.full.ravel() for group in geometry.regions])
    return _plan(geometry, PLAIN, keys, patch_cells, np.arange(len(geometry.window_region)))


@lru_cache(maxsize=CACHED_PLANS)
def _mixed_plan(geometry: FrameGeometry, mask_bytes: bytes, bucket: int) -> Int32Array:
    mask = np.frombuffer(mask_bytes, np.bool_).reshape(geometry.grid.shape)
    low = mask.ravel()
    full_cells = [group.full[~low[group.regions]].ravel() for group in geometry.regions]
    low_cells = [group.low[low[group.regions]].ravel() for group in geometry.regions]
    windows = (~low[geometry.window_region]).nonzero()[0], len(geometry.window_region) + low.nonzero()[0]
    return _plan(
        geometry, bucket, _key_blocks(geometry, mask), np.concatenate(full_cells + low_cells), np.concatenate(windows)
    )


def _plan(
    geometry: FrameGeometry, bucket: int, keys: KeyBlocks, patch_cells: Int64Array, windows: Int64Array
) -> Int32Array:
    """Write a plan.

    Args:
        geometry: of the frame.
        bucket: of the plan.
        keys: the tokens in their order, cut into blocks.
        patch_cells: (tokens,), the cells of the patches that a client sends, in its order.
        windows: numbers of the windows that hold tokens.

    Raises:
        ValueError: the bucket has no room for the tokens.
    """
    sections = plan_sections(geometry, bucket)
    tokens, blocks = len(keys.cells), len(keys.block)
    if tokens >= sections.cell.shape[0]:
        raise ValueError(f"a bucket of {sections.cell.shape[0]} has no room for {tokens} tokens and an empty one")
    plan = np.zeros(sections.length, np.int32)
    patch_in = np.empty(geometry.cells, np.int32)
    patch_in[patch_cells] = np.arange(tokens)
    token_in = sections.token.view(plan)
    token_in.fill(-1)
    token_in[keys.cells] = np.arange(tokens)
    sections.counts.view(plan)[:] = Counts(tokens, len(windows), blocks)
    sections.cell.view(plan)[:tokens] = keys.cells
    sections.patch.view(plan)[:tokens] = patch_in[keys.cells]
    sections.window.view(plan)[: len(windows)] = windows
    sections.block.view(plan)[:blocks] = keys.block
    sections.coordinate.view(plan)[:blocks] = keys.coordinate
    plan.flags.writeable = False
    return plan


class KeyBlocks(NamedTuple):
    """The tokens of a frame in an order in which each block of keys is a run.

    Attributes:
        cells: int64 (tokens,), the cell of each token.
        block: int64 (blocks, 4), as the section of that name.
        coordinate: int64 (blocks, BLOCK_COORDINATES), as the section of that name.
    """

    cells: Int64Array
    block: Int64Array
    coordinate: Int64Array

    @classmethod
    def none(cls, cells: Int64Array) -> KeyBlocks:
        """Tokens in an order without blocks."""
        return cls(cells, np.empty((0, 4), np.int64), np.empty((0, BLOCK_COORDINATES), np.int64))


def _key_blocks(geometry: FrameGeometry, mask: BoolMask) -> KeyBlocks:
    """Cut the tokens of each resolution in each band of regions into blocks, low columns closed up."""
    parts, tokens = [], 0
    low_columns = mask.repeat(geometry.grid.widths, axis=1)
    for band, height in enumerate(geometry.grid.heights.tolist()):
        for grid in (geometry.full, geometry.low):
            cols = (low_columns[band, :: grid.factor] == (grid is geometry.low)).nonzero()[0]
            if len(cols):
                first_row = band * geometry.grid.side // grid.factor
                parts.append(_band_keys(grid, first_row, height // grid.factor, cols, tokens, geometry))
                tokens += len(parts[-1].cells)
    return KeyBlocks(*map(np.concatenate, zip(*parts, strict=True)))


def _band_keys(
    grid: CellGrid, first_row: int, rows: int, cols: Int64Array, first_token: int, geometry: FrameGeometry
) -> KeyBlocks:
    """The blocks of some columns in some rows of one resolution."""
    cut = band_blocks(rows, len(cols), geometry.block_keys)
    block = np.stack([first_token + cut.starts, cut.lengths, cut.shapes, np.zeros_like(cut.shapes)], axis=1)
    coordinate = np.where(cut.row_at >= 0, grid.row_coordinate + first_row + cut.row_at, geometry.coordinates)
    coordinate = np.where(cut.col_at >= 0, grid.col_coordinate + cols[cut.col_at], coordinate)
    return KeyBlocks(grid.first_cell + (first_row + cut.rows) * grid.cols + cols[cut.cols], block, coordinate)
