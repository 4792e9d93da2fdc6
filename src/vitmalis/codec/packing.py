"""Packing the pixels of a frame of two resolutions into one image, and unpacking them (paper, section III-C).

All lengths are multiples of the patch, so with patches of 16 px no JPEG block (16 px, chroma at half resolution) sees
two regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.layout import PackedLayout, PlacedGroup, packed_layout
from vitmalis.regions.grid import Int64Array, RegionGrid
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.types import RgbImage

FLAT_GREY = 115
"""Colour of unused pixels: ImageNet's mean, which detectors normalise to about zero, like their padding."""

_PlacedRegion: TypeAlias = tuple[PlacedGroup, int, tuple[int, int]]
"""A region of a row of the grid: its group, its column in the grid, and its corner in the packed image in patches."""


def packed_size(grid: RegionGrid, regions: AnyTreatments) -> tuple[int, int]:
    """Height and width of a packed frame in pixels.

    Raises:
        UserError: the treatments do not fit the grid, or leave nothing to send.
    """
    layout = packed_layout(grid, regions)
    return layout.rows * grid.patch_px, layout.cols * grid.patch_px


def pack(image: RgbImage, grid: RegionGrid, regions: AnyTreatments, *, bgr: bool = False) -> NDArray[np.uint8]:
    """Pack the regions of a frame that are sent, some at low resolution (means over `factor` x `factor` pixels).

    Beyond the frame its last row and column are repeated: cheap to compress, and never used (`MixedLayout.inside`).

    Args:
        image: RGB uint8 (H, W, 3) of the grid's size.
        grid: geometry of the frame.
        regions: how each is treated; cached ones are left out.
        bgr: reverse the channels, as `encode_bgr` takes them: in the pass that moves the pixels anyway.

    Returns:
        uint8 of `packed_size`, RGB or BGR.

    Raises:
        UserError: the treatments do not fit the grid, or leave nothing to send.
        ValueError: the image is of another size.
    """
    check_size(image, (grid.height_px, grid.width_px))
    layout, patch, side = packed_layout(grid, regions), grid.patch_px, grid.side_px
    packed = np.empty((layout.rows * patch, layout.cols * patch, 3), np.uint8)
    for top, left, height, width in layout.gaps:
        packed[top * patch : (top + height) * patch, left * patch : (left + width) * patch] = FLAT_GREY
    copy = _copy_reversed if bgr else np.copyto
    # One row of regions after the other: its pixels are still in the processor's cache when they are read again.
    for row, placed in enumerate(_regions_by_row(layout, grid.shape[0])):
        full = image[row * side : (row + 1) * side]
        first_low, low = _low_part(full, placed, grid)
        for group, col, (top, left) in placed:
            height, width = group.height * patch, group.width * patch
            strip, start = (full, col * side) if group.factor == 1 else (low, (col - first_low) * side // group.factor)
            cell = packed[top * patch : top * patch + height, left * patch : left * patch + width]
            _fill_cell(cell, strip[:height, start : start + width], copy)
    return packed


def unpack(packed: RgbImage, grid: RegionGrid, regions: AnyTreatments) -> NDArray[np.uint8]:
    """Cut a packed frame into patches of both resolutions.

    Args:
        packed: RGB uint8 (H, W, 3) of `packed_size`.
        grid: geometry of the frame.
        regions: how each is treated; cached ones are left out.

    Returns:
        uint8 (T, patch, patch, 3) in the order of `detector.mixed.MixedLayout`.

    Raises:
        UserError: the treatments do not fit the grid, or leave nothing to send.
        ValueError: the image is of another size.
    """
    check_size(packed, packed_size(grid, regions))
    layout, side = packed_layout(grid, regions), grid.patch_px
    line = np.dtype((np.void, side * 3))  # a patch is copied as one element, in half the time of its bytes
    patches = np.empty((sum(group.tokens for group in layout.groups), side), line)
    lines = np.ascontiguousarray(packed).reshape(layout.rows, side, layout.cols, side * 3).view(line)[..., 0]
    tiles = lines.swapaxes(1, 2)  # (rows, cols, patch)
    start = 0
    for group in layout.groups:
        for row, col in group.corners:
            end = start + group.height * group.width
            region = tiles[row : row + group.height, col : col + group.width]
            patches[start:end].reshape(region.shape)[:] = region
            start = end
    return patches.view(np.uint8).reshape(-1, side, side, 3)


def packed_places(grid: RegionGrid, regions: AnyTreatments) -> Int64Array:
    """Where `unpack` finds each patch: int64 (2, T), its row and column of patches in the packed frame.

    Raises:
        UserError: the treatments do not fit the grid, or leave nothing to send.
    """
    places = []
    for group in packed_layout(grid, regions).groups:
        corners = np.array(group.corners, np.int64).reshape(-1, 2, 1, 1)
        inside = np.indices((group.height, group.width))
        places.append((corners + inside).transpose(1, 0, 2, 3).reshape(2, -1))
    return np.concatenate(places, axis=1)


def check_size(image: RgbImage, size: tuple[int, int]) -> None:
    """Raise `ValueError` unless an image is uint8 (height, width, 3) of this height and width."""
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 {(*size, 3)}")


def _smaller(image: RgbImage, factor: int) -> RgbImage:
    """Means over `factor` x `factor` pixels; the last row and column are repeated until they are that many."""
    bottom, right = -image.shape[0] % factor, -image.shape[1] % factor
    if bottom or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _regions_by_row(layout: PackedLayout, rows: int) -> list[list[_PlacedRegion]]:
    found: list[list[_PlacedRegion]] = [[] for _ in range(rows)]
    for group in layout.groups:
        regions = zip(group.regions.rows.tolist(), group.regions.cols.tolist(), group.corners, strict=True)
        for row, col, corner in regions:
            found[row].append((group, col, corner))
    return found


def _low_part(full: RgbImage, regions: Sequence[_PlacedRegion], grid: RegionGrid) -> tuple[int, RgbImage]:
    """Column of the first region of low resolution in a row of regions, and the pixels from it to the last, smaller."""
    cols = [col for group, col, _ in regions if group.factor != 1] or [0]
    return min(cols), _smaller(full[:, min(cols) * grid.side_px : (max(cols) + 1) * grid.side_px], grid.factor)


def _copy_reversed(target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    """Copy an image into another of its size, its channels in reverse order."""
    cv2.cvtColor(source, cv2.COLOR_RGB2BGR, dst=target)


def _fill_cell(
    cell: NDArray[np.uint8],
    region: NDArray[np.uint8],
    copy: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None],
) -> None:
    """Copy a region to its place, and repeat its last row and column where the cell is larger.

    Args:
        cell: the region's place in the packed image.
        region: its pixels inside the frame, at least one.
        copy: writes to its first argument what the second holds.
    """
    height, width = region.shape[:2]
    copy(cell[:height, :width], region)
    if region.shape != cell.shape:
        cell[height:, :width] = cell[height - 1, :width]
        cell[:, width:] = cell[:, width - 1 : width]
