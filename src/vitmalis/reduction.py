"""Reduction of frames to the smaller images that are analysed and tracked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reduction:
    """How frames of one size are reduced: first by averaging pixels, then perhaps by interpolating between them.

    Attributes:
        averaged: (width, height) in pixels after each averaging.
        interpolated: size after the interpolation; None without.
    """

    averaged: tuple[tuple[int, int], ...]
    interpolated: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the reduced image in pixels."""
        return self.interpolated or self.averaged[-1]

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Reduce an image, uint8 (H, W) or (H, W, 3)."""
        return self.interpolate(self.average(image))

    def average(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Carry out the first part of the reduction."""
        for size in self.averaged:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return image

    def interpolate(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Carry out the rest of the reduction, on an image that may have been converted to grey in between."""
        if self.interpolated is None:
            return image
        return np.asarray(cv2.resize(image, self.interpolated, interpolation=cv2.INTER_LINEAR), np.uint8)


@lru_cache(maxsize=64)
def reduction(width: int, height: int, scale: float, *, by_halves: bool = False) -> Reduction:
    """Reduction of frames to `scale` times their side.

    Args:
        width: of the frames in pixels.
        height: of the frames in pixels.
        scale: above 0 and at most 1.
        by_halves: average 2 x 2 pixels as often as possible, then interpolate, in place of averaging in one step. That
            rounds more often, in a third of the time: for large frames.
    """
    size = scaled(width, height, scale)
    if not by_halves:
        return Reduction((size,))
    sizes, left = [(width, height)], scale
    while left <= 0.5:
        sizes.append(scaled(*sizes[-1], 0.5))
        left *= 2
    averaged = tuple(sizes[1:])
    return Reduction(averaged, None if averaged and left == 1 else size)


def scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height in pixels of an image at a scale, at least 1."""
    return max(round(width * scale), 1), max(round(height * scale), 1)
