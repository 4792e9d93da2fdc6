"""The region overlay of a frame: region types, moving pixels and tracked boxes (as the paper's Fig. 7), or as sent."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.offload import blanked
from vitmalis.regions import Motion, RegionGrid, RegionType
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis_jobs.run.figures.panels import with_boxes

TINTS: dict[RegionType, tuple[int, int, int]] = {
    RegionType.SBR: (70, 130, 255),
    RegionType.CMR: (255, 190, 40),
    RegionType.DOR: (70, 220, 110),
}
"""RGB of each region type."""

_TINT_SHARE = 0.25
_FOREGROUND = (255, 40, 200)
_FOREGROUND_SHARE = 0.6
_LINE_PX = 2


def draw_region_overlay(
    image: RgbImage,
    grid: RegionGrid,
    region_types: NDArray[np.int8],
    tracked: Detections,
    motion: Motion | None = None,
    downsample_mask: BoolMask | None = None,
    unsent_mask: BoolMask | None = None,
) -> RgbImage:
    """Draw region types over a frame.

    Args:
        image: the frame, RGB uint8 (H, W, 3) of the grid's size.
        grid: its decision regions.
        region_types: int8 (rows, cols) of `RegionType`; each tints its region and is written in its corner.
        tracked: boxes that made the regions relevant.
        motion: its share of moving pixels is written next to each type; the pixels are drawn where it kept them.
        downsample_mask: bool (rows, cols); masked regions are drawn at low resolution and marked with "/d".
        unsent_mask: bool (rows, cols); masked regions are drawn flat and marked with "not sent".

    Returns:
        RGB uint8 (H, W, 3); write it with `vitmalis_jobs.run.figures.panels.save_png`.
    """
    out = _as_sent(image, grid, downsample_mask, unsent_mask)
    for (row, col), left, top, right, bottom in _regions(grid):
        area = out[top:bottom, left:right]
        tint = TINTS[RegionType(region_types[row, col])]
        area[:] = _blend(area, tint, _TINT_SHARE)
        cv2.rectangle(out, (left + 1, top + 1), (right - 2, bottom - 2), tint, _LINE_PX)
    if motion is not None and motion.image_foreground is not None:
        moving = _enlarged(motion.image_foreground, image.shape[:2])
        out[moving] = _blend(out[moving], _FOREGROUND, _FOREGROUND_SHARE)
    out = with_boxes(out, tracked)
    for (row, col), left, top, right, _ in _regions(grid):
        text = RegionType(region_types[row, col]).name
        if unsent_mask is not None and unsent_mask[row, col]:
            text += " not sent"
        elif downsample_mask is not None and downsample_mask[row, col]:
            text += f" /{grid.factor}"
        if motion is not None:
            text += f" {100 * motion.region_motion[row, col]:.1f}%"
        _write(out, text, left + 6, top + 6, right - left)
    return out


def draw_as_sent(
    image: RgbImage,
    grid: RegionGrid,
    *,
    region_types: NDArray[np.int8] | None = None,
    downsample_mask: BoolMask | None = None,
    unsent_mask: BoolMask | None = None,
    frame_downsampling: int = 1,
) -> RgbImage:
    """Draw a frame at the resolution in which its regions are sent; the JPEG's own loss is not drawn.

    Args:
        image: the frame, RGB uint8 (H, W, 3) of the grid's size.
        grid: its decision regions.
        region_types: drawn over it as in `draw_region_overlay`, from a policy that has them.
        downsample_mask, frame_downsampling: see `vitmalis.offload.OffloadDecision`.
        unsent_mask: bool (rows, cols), True = painted flat or cached; drawn flat.
    """
    if region_types is not None:
        return draw_region_overlay(
            image, grid, region_types, Detections.empty(), downsample_mask=downsample_mask, unsent_mask=unsent_mask
        )
    out = _as_sent(image, grid, downsample_mask, unsent_mask)
    return _coarse(out, frame_downsampling) if frame_downsampling > 1 else out


def _regions(grid: RegionGrid) -> list[tuple[tuple[int, int], int, int, int, int]]:
    """((row, col), left, top, right, bottom) of each region in raster order, pixels."""
    boxes = grid.region_boxes_px
    return [((row, col), *boxes[row, col].tolist()) for row, col in np.ndindex(grid.shape)]


def _as_sent(
    image: RgbImage, grid: RegionGrid, downsample_mask: BoolMask | None, unsent_mask: BoolMask | None
) -> RgbImage:
    """A copy of a frame with regions at the resolution they are sent in, and flat where nothing of them is sent."""
    out = image.copy() if unsent_mask is None else blanked(image, grid, unsent_mask)
    if downsample_mask is not None:
        _coarsen(out, grid, downsample_mask)
    return out


def _coarsen(image: RgbImage, grid: RegionGrid, downsample_mask: BoolMask) -> None:
    """Show masked regions at the resolution they are sent in, in place."""
    for at, left, top, right, bottom in _regions(grid):
        if downsample_mask[at]:
            image[top:bottom, left:right] = _coarse(image[top:bottom, left:right], grid.factor)


def _coarse(image: RgbImage, factor: int) -> RgbImage:
    """An image in pixels that are so many times as wide and as high, at its own size."""
    height, width = image.shape[:2]
    low = cv2.resize(image, (max(width // factor, 1), max(height // factor, 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(low, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _blend(pixels: NDArray[np.uint8], colour: tuple[int, int, int], share: float) -> NDArray[np.uint8]:
    return (pixels * (1 - share) + np.asarray(colour) * share).astype(np.uint8)


def _enlarged(foreground: BoolMask, size: tuple[int, ...]) -> BoolMask:
    """Foreground of the reduced frame at the frame's size (height, width)."""
    height, width = size
    return cv2.resize(foreground.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _write(image: RgbImage, text: str, left: int, top: int, room_px: int) -> None:
    """White on black, with its upper left corner at a point, in place; nothing in a region too narrow for it."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    if width <= room_px:
        cv2.rectangle(image, (left - 3, top - 3), (left + width + 3, top + height + 4), (0, 0, 0), cv2.FILLED)
        cv2.putText(image, text, (left, top + height), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
