"""Encoding of a frame as a policy decided: the payload that is sent."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vitmalis.codec.jpeg import encode_bgr, encode_jpeg
from vitmalis.codec.macroblocks import coarsened
from vitmalis.codec.packing import FLAT_GREY, check_size, pack
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.treatment import AnyTreatments, treated
from vitmalis.types import BoolMask, RgbImage


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFrame:
    """A compressed frame and what its receiver needs to know about it.

    Attributes:
        jpeg: the payload.
        width, height: of the frame that was packed or compressed, in pixels: smaller than the captured one where
            the decision made the whole frame smaller. Boxes come back in these pixels.
        regions: how each is treated; None if all are full: the JPEG is the plain frame.
    """

    jpeg: bytes
    width: int
    height: int
    regions: AnyTreatments | None = None


def encode_offload(image: RgbImage, decision: OffloadDecision, grid: RegionGrid) -> EncodedFrame:
    """Compress a frame as decided: packed, partly blanked or coarse, downsampled as a whole, or unchanged.

    Args:
        image: RGB uint8 (H, W, 3) of the grid's size.
        decision: its masks are of the grid's regions.
        grid: decision regions of the frame.

    Raises:
        UserError: a mask does not fit the grid, or the frame's macroblocks.
        ValueError: the image does not, or the decision downsamples both the frame and regions of it.
    """
    check_size(image, (grid.height_px, grid.width_px))
    quality, regions, size = decision.configuration.quality, sent_regions(decision, grid), sent_size(decision, grid)
    if decision.blank_mask is not None:
        image = blanked(image, grid, decision.blank_mask)
    if decision.coarse_mask is not None:
        image = coarsened(image, decision.coarse_mask, decision.coarse_quality)
    if regions is not None:
        if (factor := decision.frame_downsampling) != 1:
            raise ValueError(f"a frame made {factor} times smaller has other regions than those of the mask")
        return EncodedFrame(encode_bgr(pack(image, grid, regions, bgr=True), quality), *size, regions)
    if decision.frame_downsampling != 1:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return EncodedFrame(encode_jpeg(image, quality), *size)


def sent_regions(decision: OffloadDecision, grid: RegionGrid) -> AnyTreatments | None:
    """How each region is treated, or None if all are full: the frame then goes as a plain JPEG.

    Raises:
        UserError: a mask does not fit the grid, or all regions are cached.
    """
    cached = decision.cached_mask
    regions = treated(sent_mask(decision, grid), None if cached is None else grid.check(cached))
    if regions is not None:
        grid.treatments(regions)
    return regions


def sent_mask(decision: OffloadDecision, grid: RegionGrid) -> BoolMask | None:
    """B, bool (rows, cols), or None if no region is low.

    Raises:
        UserError: the mask does not fit the grid.
    """
    mask = decision.downsample_mask
    return mask if mask is not None and grid.check(mask).any() else None


def sent_size(decision: OffloadDecision, grid: RegionGrid) -> tuple[int, int]:
    """(width, height) in pixels of the frame that is packed or compressed."""
    factor = decision.frame_downsampling
    return -(-grid.width_px // factor), -(-grid.height_px // factor)


def blanked(image: RgbImage, grid: RegionGrid, blank_mask: BoolMask) -> RgbImage:
    """Copy a frame with the regions of the mask, bool (rows, cols), painted `FLAT_GREY`.

    Raises:
        UserError: the mask does not fit the grid.
    """
    painted = image.copy()
    for left, top, right, bottom in grid.region_boxes_px[grid.check(blank_mask)]:
        painted[top:bottom, left:right] = FLAT_GREY
    return painted
