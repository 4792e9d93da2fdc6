"""Outlines of masks as polygons, for viewers that draw paths."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import pasted

Outline = list[list[int]]
"""Polygons of a mask, each as x, y of its corners one after another, in thousandths of the box; a hole is one, too."""

_SIDE = 112
"""Side at which the outline is followed: four pixels for each of the mask."""
_TOLERANCE = 0.6
"""Distance between the outline and its polygon, in these pixels."""


def outline_of(mask: NDArray[np.uint8]) -> Outline:
    """The outline of a mask (MASK_SIDE, MASK_SIDE)."""
    drawn = pasted(mask, np.array([1, 1, _SIDE + 1, _SIDE + 1]), (0, 0, _SIDE + 2, _SIDE + 2)).astype(np.uint8)
    found, _ = cv2.findContours(drawn, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons = (cv2.approxPolyDP(contour, _TOLERANCE, closed=True)[:, 0] for contour in found)
    return [
        np.rint((corners - 0.5) * (1000 / _SIDE)).astype(int).ravel().tolist()
        for corners in polygons
        if len(corners) > 2
    ]
