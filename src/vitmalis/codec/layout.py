"""The layout of a packed frame (paper, section III-C): a function of grid and treatments alone, so it is never sent.

Regions of one resolution and shape lie side by side on shelves as wide as the widest region, a low-resolution one
`factor` times smaller along both axes. Shelves are stacked into columns, the highest first and each in the first
column with room, in as many columns as make the image cheapest to compress. Partial regions at the borders of the
frame so waste little, and the area falls with the number of tokens. Square cells of whole regions would be simpler, but
with the 24 regions of a 960x540 frame, half of them low, a seventh of such an image is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.order import RegionGroup, regions_by_shape
from vitmalis.regions.treatment import AnyTreatments, Treatment

_ROW_COST_PATCHES = 3
"""Cost of a line of pixels to a JPEG codec in addition to that of its pixels, in patches. Measured with libjpeg-turbo:
decoding 160 x 2240 pixels took a quarter longer than 640 x 560."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedGroup:
    """Regions of one resolution and shape in the packed image; lengths in patches of that image.

    Attributes:
        regions: the regions of the group.
        factor: 1, or the downsampling factor for regions of low resolution.
        corners: (row, column) of the top left patch of each.
    """

    regions: RegionGroup
    factor: int
    corners: tuple[tuple[int, int], ...]

    @property
    def height(self) -> int:
        """Height of each region in patches of the packed image."""
        return self.regions.height // self.factor

    @property
    def width(self) -> int:
        """Width of each region in patches of the packed image."""
        return self.regions.width // self.factor

    @property
    def tokens(self) -> int:
        """Number of patches in all regions of the group."""
        return len(self.corners) * self.height * self.width


@dataclass(frozen=True, slots=True, eq=False)
class PackedLayout:
    """Layout of a packed image.

    Attributes:
        rows, cols: size of the image in patches.
        groups: its regions in the order of tokens, full resolution first.
        gaps: rectangles that no region covers, which do not overlap: (row, column, height, width) in patches.
    """

    rows: int
    cols: int
    groups: tuple[PlacedGroup, ...]
    gaps: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """Where the rectangles of each kind lie; fields as of `PackedLayout` and, by kind, of `PlacedGroup`."""

    rows: int
    cols: int
    corners: tuple[tuple[tuple[int, int], ...], ...]
    gaps: tuple[tuple[int, int, int, int], ...]


def packed_layout(grid: RegionGrid, regions: AnyTreatments) -> PackedLayout:
    """Lay out a frame; recent layouts are cached.

    Args:
        grid: geometry of the frame.
        regions: how each is treated; cached ones are left out.

    Raises:
        UserError: the treatments do not fit the grid, or leave nothing to send.
    """
    return _packed_layout(grid, grid.treatments(regions).tobytes())


@lru_cache(maxsize=64)
def _packed_layout(grid: RegionGrid, regions: bytes) -> PackedLayout:
    treatments = np.frombuffer(regions, np.int8).reshape(grid.shape)
    groups = [(group, 1) for group in regions_by_shape(grid, treatments == Treatment.FULL)]
    groups += [(group, grid.factor) for group in regions_by_shape(grid, treatments == Treatment.LOW)]
    shapes = tuple((len(group), group.height // factor, group.width // factor) for group, factor in groups)
    found = _arranged(shapes, grid.shape[1])
    placed = (PlacedGroup(group, factor, at) for (group, factor), at in zip(groups, found.corners, strict=True))
    return PackedLayout(found.rows, found.cols, tuple(placed), found.gaps)


@lru_cache(maxsize=256)
def _arranged(shapes: tuple[tuple[int, int, int], ...], most_columns: int) -> _Arrangement:
    """Arrange rectangles, given as (number, height, width) by kind.

    Cached, since many masks have the same numbers of regions of each kind.
    """
    column = max(width for _, _, width in shapes)
    counts = [-(-number // (column // width)) for number, _, width in shapes]
    falling = sorted(range(len(shapes)), key=lambda kind: -shapes[kind][1])
    rows, columns = _cheapest(
        [shapes[kind][1] for kind in falling], [counts[kind] for kind in falling], column, most_columns
    )
    shelves: list[list[tuple[int, int]]] = [[] for _ in shapes]
    gaps = []
    for index, taken in enumerate(columns):
        top = 0
        for kind, number in zip(falling, taken, strict=True):
            height = shapes[kind][1]
            shelves[kind] += [(top + height * at, index * column) for at in range(number)]
            top += height * number
        gaps.append((top, index * column, rows - top, column))
    corners = []
    for shape, places in zip(shapes, shelves, strict=True):
        placed, unused = _side_by_side(shape, places, column)
        corners.append(placed)
        gaps += unused
    return _Arrangement(rows, len(columns) * column, tuple(corners), tuple(gap for gap in gaps if gap[2] and gap[3]))


def _side_by_side(
    shape: tuple[int, int, int], shelves: Sequence[tuple[int, int]], column: int
) -> tuple[tuple[tuple[int, int], ...], list[tuple[int, int, int, int]]]:
    """Top left corners of regions of one (number, height, width) on their shelves, and what is left of each shelf."""
    number, height, width = shape
    corners: list[tuple[int, int]] = []
    gaps = []
    for top, left in shelves:
        end = left + width * min(number - len(corners), column // width)
        corners += [(top, at) for at in range(left, end, width)]
        gaps.append((top, end, height, left + column - end))
    return tuple(corners), gaps


def _cheapest(
    heights: Sequence[int], counts: Sequence[int], column: int, most_columns: int
) -> tuple[int, list[list[int]]]:
    """Height of the cheapest image, and the shelves of each kind in each of its columns (`column` patches wide).

    Kinds are sorted by falling height.
    """
    total = sum(height * count for height, count in zip(heights, counts, strict=True))
    best, best_cost = (total, [list(counts)]), total * (column + _ROW_COST_PATCHES)
    for columns in range(most_columns, 1, -1):  # the wide ones cost least for their area
        rows = max(heights[0], -(-total // columns))
        while (cost := rows * (columns * column + _ROW_COST_PATCHES)) < best_cost:
            filled = _fill(heights, counts, rows, columns)
            if filled is not None:
                best, best_cost = (rows, filled), cost
            rows += 1
    return best


def _fill(heights: Sequence[int], counts: Sequence[int], rows: int, columns: int) -> list[list[int]] | None:
    """Shelves of each kind in each column, the highest first; None if some do not fit."""
    left, filled = list(counts), []
    for _ in range(columns):
        room, taken = rows, []
        for kind, height in enumerate(heights):
            number = min(left[kind], room // height)
            taken.append(number)
            left[kind] -= number
            room -= number * height
        filled.append(taken)
    return None if any(left) else filled
