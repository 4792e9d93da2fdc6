"""How much a frame has changed since an earlier one, by its edges: a feature that takes a device under a millisecond.

The share of pixels whose edges differ is what Reducto (Li et al., SIGCOMM 2020) compares to detect boxes.
"""

from __future__ import annotations

import cv2
import numpy as np

from vitmalis.types import BoolMask, RgbImage

WIDTH_PX = 240
"""Width of the image that edges are found in: the same for all frames, as a threshold is of its pixels."""
_CANNY = (50, 150)
"""Canny's thresholds on the gradient: of weak edges, and of strong ones that these have to be connected to."""


def edge_pixels(image: RgbImage) -> BoolMask:
    """Find the edges of a frame, RGB uint8 (H, W, 3), in its reduced image: bool (h, `WIDTH_PX`)."""
    height, width = image.shape[:2]
    size = WIDTH_PX, max(round(WIDTH_PX * height / width), 1)
    reduced = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.Canny(cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY), *_CANNY)) > 0


def changed_share(edges: BoolMask, earlier: BoolMask) -> float:
    """Share of the pixels that are an edge in one of two frames and none in the other, 0..1."""
    return float(np.mean(edges != earlier))


class ChangeFilter:
    """Passes the first frame, and each that has changed enough since the last one that passed.

    Args:
        threshold: a frame passes whose changed share is above it.
        longest_s: a frame passes, changed or not, so long after the last one.
    """

    def __init__(self, threshold: float, longest_s: float) -> None:
        self._threshold, self._longest_s = threshold, longest_s
        self._last: BoolMask | None = None

    def passes(self, edges: BoolMask, since_last_s: float, *, always: bool = False) -> bool:
        """Whether a frame with these edges passes, seconds after the last one that did; with `always` it does."""
        changed = self._last is None or changed_share(edges, self._last) > self._threshold
        if not (always or changed or since_last_s >= self._longest_s):
            return False
        self._last = edges
        return True
