"""Frames whose macroblocks have two qualities in one baseline JPEG, which has one table of quantisation for all."""

from __future__ import annotations

import numpy as np

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.errors import UserError
from vitmalis.types import BoolMask, RgbImage

MACROBLOCK_PX = 16
"""Side of a macroblock: the unit of a JPEG with chroma at half resolution, and of H.264."""


def macroblock_shape(width_px: int, height_px: int) -> tuple[int, int]:
    """Rows and columns of the macroblocks of a frame; the last ones may be partial."""
    return -(-height_px // MACROBLOCK_PX), -(-width_px // MACROBLOCK_PX)


def check_macroblocks(mask: BoolMask, width_px: int, height_px: int) -> BoolMask:
    """Check that a mask is of the macroblocks of a frame, and return it.

    Raises:
        UserError: the mask is not bool (rows, cols).
    """
    shape = macroblock_shape(width_px, height_px)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise UserError(
            f"coarse mask is {mask.dtype} {mask.shape}, but a {width_px}x{height_px} frame has {shape[0]} x {shape[1]} "
            f"macroblocks of {MACROBLOCK_PX} px: give bool {shape}"
        )
    return mask


def coarsened(image: RgbImage, coarse_mask: BoolMask, quality: int) -> RgbImage:
    """Copy a frame, RGB uint8 (H, W, 3), with some macroblocks as a JPEG of a lower quality makes them.

    Most of their coefficients are zero then, and stay zero in a JPEG of a higher quality, so that they cost it little.

    Args:
        image: the frame.
        coarse_mask: bool (rows, cols) of macroblocks, True for the lower quality.
        quality: the lower JPEG quality, 1..100.

    Raises:
        UserError: the mask is not of this frame's macroblocks.
        ValueError: a quality outside 1..100.
    """
    height, width = image.shape[:2]
    check_macroblocks(coarse_mask, width, height)
    coarse = decode_jpeg(encode_jpeg(image, quality), max_pixels=height * width)
    pixels = coarse_mask.repeat(MACROBLOCK_PX, 0).repeat(MACROBLOCK_PX, 1)[:height, :width]
    return np.where(pixels[:, :, None], coarse, image)
