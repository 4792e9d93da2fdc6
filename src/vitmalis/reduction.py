"""Reduction of frames to the smaller images that are analysed and tracked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vitmalis.types import RgbImage


@dataclass(frozen=True, slots=True)
class Reduction:
    """How frames of one size are reduced.

    Attributes:
        sizes: (width, height) in pixels that a frame is resized to in turn, the reduced image's last.
        interpolations: OpenCV's interpolation of each.
    """

    sizes: tuple[tuple[int, int], ...]
    interpolations: tuple[int, ...]

    def apply(self, image: RgbImage) -> RgbImage:
        """Reduce a frame, RGB uint8 (H, W, 3)."""
        for size, interpolation in zip(self.sizes, self.interpolations, strict=True):
            image = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
        return image


@lru_cache(maxsize=64)
def reduction(width: int, height: int, scale: float, *, by_halves: bool = False) -> Reduction:
    """Reduction of frames to `scale` times their side.

    Args:
        width: of the frames in pixels.
        height: of the frames in pixels.
        scale: above 0 and at most 1.
        by_halves: average 2 x 2 pixels as often as possible, then interpolate between pixels, in place of averaging in
            one step. Rounds more often, in a third of the time: for large frames.
    """
    if not by_halves:
        return Reduction((scaled(width, height, scale),), (cv2.INTER_AREA,))
    sizes, left = [(width, height)], scale
    while left <= 0.5:
        sizes.append(scaled(*sizes[-1], 0.5))
        left *= 2
    halves = len(sizes) - 1
    if left == 1:
        return Reduction(tuple(sizes[1:]), (cv2.INTER_AREA,) * halves)
    return Reduction((*sizes[1:], scaled(width, height, scale)), (*(cv2.INTER_AREA,) * halves, cv2.INTER_LINEAR))


def scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height in pixels of an image at a scale, at least 1."""
    return max(round(width * scale), 1), max(round(height * scale), 1)
