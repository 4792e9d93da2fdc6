"""Which regions of a frame still show what they, or regions a few whole tokens away, showed in an earlier frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.regions import RegionGrid
from vitmalis.types import Displacements, RgbImage

PIXELS_PER_TOKEN = 4
"""Side of a full-resolution patch in the reduced image that frames are compared in."""

Reduced = NDArray[np.uint8]
"""Grey image of a padded frame, `PIXELS_PER_TOKEN` pixels for each patch along both axes."""


def reduced(image: RgbImage, grid: RegionGrid) -> Reduced:
    """Reduce a frame, RGB uint8 (H, W, 3); beyond it, its last row and column are repeated."""
    bottom, right = grid.padded_height_px - grid.height_px, grid.padded_width_px - grid.width_px
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else image
    size = grid.patch_cols * PIXELS_PER_TOKEN, grid.patch_rows * PIXELS_PER_TOKEN
    smaller = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(smaller, cv2.COLOR_RGB2GRAY), np.uint8)


def least_changes(
    image: Reduced, earlier: Reduced, grid: RegionGrid, reach: int
) -> tuple[NDArray[np.float64], Displacements]:
    """Find for each region the displacement at which its token that differs most differs least.

    Args:
        image, earlier: both frames.
        grid: their regions.
        reach: most tokens of a displacement along each axis; 0 compares regions in place.

    Returns:
        The mean difference of that token's pixels, grey levels (rows, cols), and the displacements (rows, cols, 2): by
        how many tokens the content has moved since the earlier frame. Of equal ones, the smallest is taken.
    """
    ahead = range(-reach, reach + 1)
    steps = sorted(((down, right) for down in ahead for right in ahead), key=lambda step: abs(step[0]) + abs(step[1]))
    changes = np.array([_changes(image, moved(earlier, step), grid) for step in steps])
    best = changes.argmin(0)
    return changes.min(0), np.array(steps, np.int8)[best]


def moved(image: Reduced, step: tuple[int, int]) -> Reduced:
    """Move what an image shows by a step of tokens, (down, right); at the borders its outermost pixels are repeated."""
    down, right = (PIXELS_PER_TOKEN * tokens for tokens in step)
    rows, cols = np.arange(image.shape[0]) - down, np.arange(image.shape[1]) - right
    return image[rows.clip(0, len(rows) - 1)][:, cols.clip(0, len(cols) - 1)]


def by_region(treated: NDArray[np.generic], grid: RegionGrid) -> NDArray[np.generic]:
    """Repeat values of regions, (rows, cols, ...), over the pixels of the reduced image."""
    side = grid.side * PIXELS_PER_TOKEN
    height, width = grid.patch_rows * PIXELS_PER_TOKEN, grid.patch_cols * PIXELS_PER_TOKEN
    return treated.repeat(side, 0).repeat(side, 1)[:height, :width]


def _changes(image: Reduced, other: Reduced, grid: RegionGrid) -> NDArray[np.float64]:
    """Mean difference of the token that differs most, by region (rows, cols)."""
    size = grid.patch_cols, grid.patch_rows
    tokens = np.asarray(cv2.resize(cv2.absdiff(image, other), size, interpolation=cv2.INTER_AREA), np.float64)
    by_row = np.maximum.reduceat(tokens, np.arange(0, grid.patch_rows, grid.side), axis=0)
    return np.maximum.reduceat(by_row, np.arange(0, grid.patch_cols, grid.side), axis=1)
