"""A textured image that slides to the right, so that flow can follow it: for tests of boxes in consecutive frames."""

from __future__ import annotations

import cv2
import numpy as np

from vitmalis.types import RgbImage

SHIFT_PX = 16
"""How far it slides in a frame."""
FRAMES = 5


def sliding_scene() -> list[RgbImage]:
    """The frames, 400 x 240 px."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    scene = cv2.resize(coarse, (480, 240), interpolation=cv2.INTER_CUBIC)
    start = SHIFT_PX * (FRAMES - 1)
    return [np.ascontiguousarray(scene[:, start - SHIFT_PX * t : start - SHIFT_PX * t + 400]) for t in range(FRAMES)]
