"""Packing the pixels of a frame of two resolutions into one image, and unpacking them (paper, section III-C).

All lengths are multiples of the patch, so with patches of 16 px no JPEG block (16 px, chroma at half resolution) sees
two regions.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.layout import PlacedGroup, packed_layout
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, RgbImage

FLAT_GREY = 115
"""Colour of unused pixels: ImageNet's mean, which detectors normalise to about zero, like their padding."""


def packed_size(grid: RegionGrid, downsample_mask: BoolMask) -> tuple[int, int]:
    """Height and width of a packed frame in pixels.

    Raises:
        UserError: the mask does not fit the grid.
    """
    layout = packed_layout(grid, downsample_mask)
    return layout.rows * grid.patch_px, layout.cols * grid.patch_px


def pack(image: RgbImage, grid: RegionGrid, downsample_mask: BoolMask) -> RgbImage:
    """Pack a frame, the regions of the mask at low resolution (means over `factor` x `factor` pixels).

    Beyond the frame its last row and column are repeated: cheap to compress, and never used (`MixedLayout.inside`).

    Args:
        image: uint8 (H, W, 3) of the grid's size; the order of its channels stays.
        grid: geometry of the frame.
        downsample_mask: bool (rows, cols) of regions, True for low resolution.

    Returns:
        uint8 of `packed_size`.

    Raises:
        UserError: the mask does not fit the grid.
        ValueError: the image is of another size.
    """
    check_size(image, (grid.height_px, grid.width_px))
    layout = packed_layout(grid, downsample_mask)
    packed = np.full((layout.rows * grid.patch_px, layout.cols * grid.patch_px, 3), FLAT_GREY, np.uint8)
    # The whole frame is resized, not region by region: a few large calls cost less than many small ones (measured).
    low = _smaller(image, grid.factor)
    for group in layout.groups:
        _place(image if group.factor == 1 else low, grid, group, packed)
    return packed


def unpack(packed: RgbImage, grid: RegionGrid, downsample_mask: BoolMask) -> NDArray[np.uint8]:
    """Cut a packed frame into patches of both resolutions.

    Args:
        packed: RGB uint8 (H, W, 3) of `packed_size`.
        grid: geometry of the frame.
        downsample_mask: bool (rows, cols) of regions, True for low resolution.

    Returns:
        uint8 (T, patch, patch, 3) in the order of `detector.mixed.MixedLayout`.

    Raises:
        UserError: the mask does not fit the grid.
        ValueError: the image is of another size.
    """
    check_size(packed, packed_size(grid, downsample_mask))
    layout, side = packed_layout(grid, downsample_mask), grid.patch_px
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


def _place(source: RgbImage, grid: RegionGrid, group: PlacedGroup, packed: RgbImage) -> None:
    """Copy regions from a frame of their resolution, and repeat its edge where they reach beyond."""
    side, step = grid.patch_px, grid.side_px // group.factor
    height, width = group.height * side, group.width * side
    tops, lefts = (group.regions.rows * step).tolist(), (group.regions.cols * step).tolist()
    for y, x, (row, col) in zip(tops, lefts, group.corners, strict=True):
        region = source[y : y + height, x : x + width]
        cell = packed[row * side : row * side + height, col * side : col * side + width]
        inside_y, inside_x = region.shape[:2]
        cell[:inside_y, :inside_x] = region
        if region.shape != cell.shape:
            cell[inside_y:, :inside_x] = region[-1]
            cell[:, inside_x:] = cell[:, inside_x - 1 : inside_x]
