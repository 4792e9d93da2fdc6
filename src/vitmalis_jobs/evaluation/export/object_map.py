"""Which object each pixel of a frame belongs to, for formats in which masks do not overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import pasted, window_in_frame
from vitmalis.types import Detections

NOTHING = -1
"""Value of pixels that belong to no object."""


def object_map(detections: Detections, frame_size: tuple[int, int]) -> NDArray[np.int32]:
    """The row in `detections` of each pixel's object, (height, width), or `NOTHING`.

    Where masks overlap, the pixel is that of the object with the highest score. A box without a mask is filled.
    """
    width, height = frame_size
    drawn = np.full((height, width), NOTHING, np.int32)
    masks = detections.masks_or_boxes
    for row in np.argsort(-detections.scores, kind="stable")[::-1]:
        box = detections.boxes_xyxy[row]
        left, top, right, bottom = window = window_in_frame(box, frame_size)
        drawn[top:bottom, left:right][pasted(masks[row], box, window)] = row
    return drawn
