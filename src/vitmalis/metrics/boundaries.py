"""Boundary F1 of two masks: how closely their outlines agree, whatever they enclose.

The measure is that of DAVIS (Perazzi et al.: A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation, CVPR 2016), computed as its evaluation code does: the outline of a mask is a line of pixels, and a pixel
of it is right within a tolerance of the other outline, found by dilating that one with a disk. IoU says little about
the outline of a large object, where most pixels are inside.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.types import BoolMask

TOLERANCE = 0.008
"""Tolerance as a share of the frame's diagonal."""


def boundary_tolerance_px(frame_size: tuple[int, int]) -> int:
    """Tolerance in pixels of a frame of (width, height), rounded up."""
    return math.ceil(TOLERANCE * math.hypot(*frame_size))


def boundary_f1(one: BoolMask, other: BoolMask, tolerance_px: float) -> float:
    """Harmonic mean of the shares of each outline that lie within a tolerance of the other.

    Args:
        one, other: masks of one size. Edges of the image are no outlines: where it cuts an object, it goes on.
        tolerance_px: largest distance at which pixels of outlines match, inclusive.

    Returns:
        0..1; of masks without an outline, 1 if neither has one, else 0.
    """
    first, second = _outline(one), _outline(other)
    lengths = cv2.countNonZero(first), cv2.countNonZero(second)
    if not all(lengths):
        return 0.0 if any(lengths) else 1.0
    disk = _disk(tolerance_px)
    precision = cv2.countNonZero(cv2.bitwise_and(first, cv2.dilate(second, disk))) / lengths[0]
    recall = cv2.countNonZero(cv2.bitwise_and(second, cv2.dilate(first, disk))) / lengths[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _outline(mask: BoolMask) -> NDArray[np.uint8]:
    """Pixels that differ from their neighbour to the right, below or between these, as 1."""
    drawn = mask.astype(np.uint8)
    if not drawn.size:  # which OpenCV refuses
        return drawn
    return np.asarray(cv2.morphologyEx(drawn, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8), anchor=(0, 0)), np.uint8)


def _disk(radius: float) -> NDArray[np.uint8]:
    """Pixels whose centres are at most so far from the middle one, as 1."""
    places = np.arange(-int(radius), int(radius) + 1)
    return (np.hypot(*np.meshgrid(places, places)) <= radius).astype(np.uint8)
