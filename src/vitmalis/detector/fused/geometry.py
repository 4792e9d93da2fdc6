"""What all masks of a frame size share: cells, coordinates, windows and blocks of keys.

A *cell* is a place that a token can have: the patches of the frame in raster order, then the cells of the
low-resolution grid in raster order. A *coordinate* is a row or column of either grid: rows of patches, low-resolution
rows, columns of patches, low-resolution columns. The bias of a query and a key is a sum of two terms, each of which
depends on the query and on one of the key's two coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitmalis.regions.grid import Int64Array, RegionGrid
from vitmalis.regions.order import regions_by_shape

LEAST_KEYS = 16
"""Fewest keys that a product on a GPU takes."""

BLOCK_COORDINATES = 32
"""Coordinates of a block of keys, its rows and columns; the last one says which keys do not exist."""


class CellGrid(NamedTuple):
    """The cells of one resolution.

    Attributes:
        factor: patches along the side of a cell.
        rows, cols: of the grid.
        first_cell: number of its first cell.
        row_coordinate, col_coordinate: the coordinates of its first row and of its first column.
    """

    factor: int
    rows: int
    cols: int
    first_cell: int
    row_coordinate: int
    col_coordinate: int


class LineSegments(NamedTuple):
    """How plain attention goes through a line of patches: in equal segments, each loaded as a block of keys.

    Attributes:
        segments: number of segments.
        width: patches in each, the last may have fewer.
        keys: keys that are loaded for a segment, a power of two.
    """

    segments: int
    width: int
    keys: int

    @property
    def stride(self) -> int:
        """From a query's terms for the columns to those of the next one: aligned, so that a thread loads several."""
        return -(-self.segments * self.width // LEAST_KEYS) * LEAST_KEYS

    @property
    def end(self) -> int:
        """Patches from the start of a line to the last key that is loaded."""
        return (self.segments - 1) * self.width + self.keys


@dataclass(frozen=True, slots=True, eq=False)
class RegionCells:
    """The cells of regions of equal shape, in raster order.

    Attributes:
        regions: int64 (n,), number of each region in raster order.
        full, low: int64 (n, tokens), the cells of each region at full and low resolution.
    """

    regions: Int64Array
    full: Int64Array
    low: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class BandBlocks:
    """How a grid of tokens is cut into blocks of keys: rectangles of rows x columns, each with few coordinates.

    Attributes:
        rows, cols: int64 (tokens,), the row and column of each token, block after block.
        starts, lengths: int64 (blocks,), the first token of each block and how many it has.
        shapes: int64 (blocks,), index of each block's shape in `block_shapes`.
        row_at, col_at: int64 (blocks, BLOCK_COORDINATES), the row or column that a coordinate of the block stands for,
            -1 where it stands for none.
    """

    rows: Int64Array
    cols: Int64Array
    starts: Int64Array
    lengths: Int64Array
    shapes: Int64Array
    row_at: Int64Array
    col_at: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class FrameGeometry:
    """Everything about frames of one size that does not depend on the mask.

    Attributes:
        grid: the decision regions.
        block_keys: most tokens in a block of keys.
        bucket_tokens: numbers of tokens are rounded up to a multiple of this.
        full, low: the cells of each resolution.
        regions: the regions by shape, in the order in which clients send them.
        window_region: int64 (windows,), the region of each window of patches in raster order.
        max_blocks: most blocks of keys under any mask.
    """

    grid: RegionGrid
    block_keys: int
    bucket_tokens: int
    full: CellGrid
    low: CellGrid
    regions: tuple[RegionCells, ...]
    window_region: Int64Array
    max_blocks: int

    @property
    def line(self) -> LineSegments:
        """How plain attention goes through a line of patches."""
        segments = -(-self.full.cols // self.block_keys)
        width = -(-self.full.cols // segments)
        return LineSegments(segments, width, max(LEAST_KEYS, 1 << (width - 1).bit_length()))

    @property
    def patches(self) -> int:
        """Patches of the frame: tokens where no region is downsampled."""
        return self.low.first_cell

    @property
    def cells(self) -> int:
        """Number of cells, those of both resolutions."""
        return self.patches + self.low.rows * self.low.cols

    @property
    def coordinates(self) -> int:
        """Rows and columns of both resolutions; also the number of the coordinate of keys that do not exist."""
        return self.low.col_coordinate + self.low.cols


@lru_cache(maxsize=16)
def frame_geometry(grid: RegionGrid, block_keys: int, bucket_tokens: int) -> FrameGeometry:
    """The geometry of frames of a size.

    Args:
        grid: the decision regions.
        block_keys: most tokens in a block of keys, a power of two of at least `LEAST_KEYS`.
        bucket_tokens: numbers of tokens are rounded up to a multiple of this.
    """
    rows, cols, factor, window = grid.patch_rows, grid.patch_cols, grid.factor, grid.window
    low_rows, low_cols = rows // factor, cols // factor
    down, across = np.arange(-(-rows // window)), np.arange(-(-cols // window))
    return FrameGeometry(
        grid=grid,
        block_keys=block_keys,
        bucket_tokens=bucket_tokens,
        full=CellGrid(1, rows, cols, 0, 0, rows + low_rows),
        low=CellGrid(factor, low_rows, low_cols, rows * cols, rows, rows + low_rows + cols),
        regions=tuple(_region_cells(grid)),
        window_region=(down[:, None] // factor * grid.shape[1] + across // factor).ravel(),
        max_blocks=_most_blocks(grid, block_keys),
    )


def _region_cells(grid: RegionGrid) -> list[RegionCells]:
    rows, cols, factor = grid.patch_rows, grid.patch_cols, grid.factor
    patch = np.arange(rows * cols).reshape(rows, cols)
    low = rows * cols + np.arange(patch.size // factor**2).reshape(rows // factor, cols // factor)
    found = []
    for group in regions_by_shape(grid, np.ones(grid.shape, np.bool_)):
        regions = group.rows * grid.shape[1] + group.cols
        cells = []
        for table, scale in ((patch, 1), (low, factor)):
            down = group.rows[:, None] * (grid.side // scale) + np.arange(group.height // scale)
            across = group.cols[:, None] * (grid.side // scale) + np.arange(group.width // scale)
            cells.append(table[down[:, :, None], across[:, None, :]].reshape(len(group), -1))
        found.append(RegionCells(regions, *cells))
    return found


def _most_blocks(grid: RegionGrid, block_keys: int) -> int:
    """Most blocks under any mask: in each band of regions, only the number of its low columns matters."""
    total, factor = 0, grid.factor
    *whole, last = grid.widths.tolist()
    low_widths = {sum(whole[:count]) + end for count in range(len(whole) + 1) for end in (0, last)}
    for height in grid.heights.tolist():
        total += max(
            block_count(height, grid.patch_cols - width, block_keys)
            + block_count(height // factor, width // factor, block_keys)
            for width in low_widths
        )
    return total


def block_count(rows: int, cols: int, block_keys: int) -> int:
    """Blocks of a grid of tokens of which either side may be 0."""
    return len(band_blocks(rows, cols, block_keys).starts) if rows and cols else 0


@lru_cache(maxsize=4096)
def band_blocks(rows: int, cols: int, block_keys: int) -> BandBlocks:
    """Cut a grid of rows x cols tokens into as few blocks of nearly equal shape as possible."""
    across, down = _groups(rows, cols, block_keys)
    shapes = block_shapes(block_keys)
    cells: list[tuple[Int64Array, Int64Array]] = []
    row_at, col_at = [], []
    blocks = [(own_rows, own_cols) for own_rows in _parts(rows, down) for own_cols in _parts(cols, across)]
    for own_rows, own_cols in blocks:
        cells.append((own_rows.repeat(len(own_cols)), np.tile(own_cols, len(own_rows))))
        row_at.append(_padded(own_rows, 0))
        col_at.append(_padded(own_cols, len(own_rows)))
    lengths = np.array([len(own_rows) * len(own_cols) for own_rows, own_cols in blocks])
    return BandBlocks(
        rows=np.concatenate([own for own, _ in cells]),
        cols=np.concatenate([own for _, own in cells]),
        starts=lengths.cumsum() - lengths,
        lengths=lengths,
        shapes=np.array([shapes[len(own_rows), len(own_cols)] for own_rows, own_cols in blocks]),
        row_at=np.stack(row_at),
        col_at=np.stack(col_at),
    )


def _groups(rows: int, cols: int, block_keys: int) -> tuple[int, int]:
    """Into how many groups of columns and of rows to cut, so that every block fits and there are fewest."""
    fitting = [
        (across * down, high + wide, across, down)
        for down in range(1, rows + 1)
        for across in range(1, cols + 1)
        if (high := -(-rows // down)) * (wide := -(-cols // across)) <= block_keys and high + wide < BLOCK_COORDINATES
    ]
    _, _, across, down = min(fitting)
    return across, down


def _parts(length: int, count: int) -> list[Int64Array]:
    return np.array_split(np.arange(length), count)


def _padded(values: Int64Array, before: int) -> Int64Array:
    out = np.full(BLOCK_COORDINATES, -1)
    out[before : before + len(values)] = values
    return out


@lru_cache(maxsize=16)
def block_shapes(block_keys: int) -> dict[tuple[int, int], int]:
    """The shapes (rows, cols) that a block of keys can have, each with its index in `block_patterns`."""
    sides = range(1, BLOCK_COORDINATES - 1)
    fitting = [(r, c) for r in sides for c in sides if r * c <= block_keys and r + c < BLOCK_COORDINATES]
    return {shape: index for index, shape in enumerate(fitting)}


def block_patterns(block_keys: int) -> NDArray[np.float32]:
    """For each shape of a block which coordinates its keys have: 0 or 1, (shapes, BLOCK_COORDINATES, block_keys).

    A product with this matrix adds a query's terms of the row and of the column to the score of each key. Keys beyond
    the block have the last coordinate.
    """
    shapes = block_shapes(block_keys)
    patterns = np.zeros((len(shapes), BLOCK_COORDINATES, block_keys), np.float32)
    for (rows, cols), index in shapes.items():
        key = np.arange(rows * cols)
        patterns[index, key // cols, key] = 1
        patterns[index, rows + key % cols, key] = 1
        patterns[index, -1, rows * cols :] = 1
    return patterns
