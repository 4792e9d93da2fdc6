"""The order of regions in a token sequence and in a packed frame, the same for client and server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vitmalis.regions.grid import Int64Array, RegionGrid
from vitmalis.types import BoolMask


@dataclass(frozen=True, slots=True, eq=False)
class RegionGroup:
    """Regions of equal shape in raster order.

    Attributes:
        rows, cols: int64 (n,), the place of each region in the grid.
        height, width: of each region in full-resolution patches.
    """

    rows: Int64Array
    cols: Int64Array
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.rows)


def regions_by_shape(grid: RegionGrid, chosen: BoolMask) -> list[RegionGroup]:
    """Sort the chosen regions, bool (rows, cols), into at most four groups: the higher, then the wider ones first."""
    groups = []
    for height, width, alike in _shapes(grid):
        rows, cols = np.nonzero(chosen & alike)
        if len(rows):
            groups.append(RegionGroup(rows, cols, height, width))
    return groups


@lru_cache(maxsize=16)
def _shapes(grid: RegionGrid) -> list[tuple[int, int, BoolMask]]:
    """Each shape of the grid's regions, and which regions have it."""
    heights, widths = grid.heights, grid.widths
    return [
        (height, width, (heights == height)[:, None] & (widths == width))
        for height in np.unique(heights)[::-1].tolist()
        for width in np.unique(widths)[::-1].tolist()
    ]
