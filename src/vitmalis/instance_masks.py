"""Masks of objects, each in its box: what they are, their quantisation, their packed form, and their place in a frame.

A mask is stored and sent with 16 levels, half a byte a pixel: pasted at the size of objects, these agree with the
truth to 0.001 IoU as well as probabilities do, while single bits lose 0.01 (docs/protocol.md). All masks have the same
size, so that a number of objects gives the number of bytes, and nothing has to be decompressed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.uint8]
"""uint8 (N, MASK_SIDE, MASK_SIDE): the masks of objects, each in its box."""

MASK_SIDE = 28
"""Rows and columns of a mask in its box: the size at which mask heads predict."""
MASK_THRESHOLD = 128
"""Value from which on a pixel of a mask belongs to the object: the first above one half of 255."""
MASK_BYTES = MASK_SIDE**2 // 2
"""Size of a packed mask."""
_LEVEL = 17
"""Value between two levels: the highest of 16 stands for 255."""


def filled_masks(count: int) -> Masks:
    """Make masks that fill their boxes, for so many objects."""
    return np.full((count, MASK_SIDE, MASK_SIDE), 255, np.uint8)


def quantized(probabilities: NDArray[np.floating]) -> Masks:
    """Masks from probabilities (N, MASK_SIDE, MASK_SIDE), 0..1: 16 levels, of which the upper half is the object.

    These are the masks that `packed` keeps exactly.
    """
    return (np.minimum(probabilities * 16, 15).astype(np.uint8) * _LEVEL).astype(np.uint8)


def packed(masks: Masks) -> bytes:
    """Pack masks as `MASK_BYTES` each: by rows, two pixels a byte, the first in the higher half."""
    levels = (masks >> 4).reshape(len(masks), MASK_BYTES, 2)
    return (levels[..., 0] << 4 | levels[..., 1]).tobytes()


def unpacked(data: bytes) -> Masks:
    """Unpack the masks of `packed`; raises `ValueError` for another length."""
    pairs = np.frombuffer(data, np.uint8).reshape(-1, MASK_BYTES, 1)
    return (np.concatenate([pairs >> 4, pairs & 15], axis=-1) * _LEVEL).reshape(-1, MASK_SIDE, MASK_SIDE)


def masks_to_send(masks: Masks) -> int:
    """How many masks there are up to the last one that does not fill its box: the others need not be sent.

    Detectors give the best object first and may leave out masks of those that no one sees, which then fill their boxes.
    """
    partial = np.flatnonzero((masks < 15 * _LEVEL).any(axis=(1, 2)))
    return int(partial[-1]) + 1 if len(partial) else 0


def pasted(
    mask: NDArray[np.uint8], box_xyxy: NDArray[np.floating], window: tuple[int, int, int, int]
) -> NDArray[np.bool_]:
    """Paste a mask into a window of its frame, as detectron2 does: interpolated, with nothing around the box.

    A mask that is full everywhere gives the pixels whose centres lie in the box, apart from up to half a pixel of the
    mask at each corner, which interpolation rounds.

    Args:
        mask: (MASK_SIDE, MASK_SIDE).
        box_xyxy: where it lies in the frame.
        window: x0, y0, x1, y1 of the frame's pixels that are wanted, ends excluded.

    Returns:
        bool (y1 - y0, x1 - x0), True for the object's pixels.
    """
    left, top, right, bottom = window
    x0, y0, x1, y1 = (float(side) for side in box_xyxy)
    across, down = _interpolation(left, right, x0, x1), _interpolation(top, bottom, y0, y1)
    return down @ mask.astype(np.float32) @ across.T >= 255 / 2


def window_in_frame(box_xyxy: NDArray[np.floating], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that a box touches in a frame of `size`, (width, height)."""
    left, top = np.clip(np.floor(box_xyxy[:2]), 0, size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(box_xyxy[2:]), (left, top), size).astype(int).tolist()
    return left, top, right, bottom


def _interpolation(first: int, end: int, start: float, stop: float) -> NDArray[np.float32]:
    """Weights of a mask's rows or columns, which lie from `start` to `stop`, in those of pixels: (end - first, 28)."""
    places = (np.arange(first, end) + 0.5 - start) / max(stop - start, 1e-6) * MASK_SIDE - 0.5
    return np.clip(1 - np.abs(places[:, None] - np.arange(MASK_SIDE)), 0, None).astype(np.float32)
