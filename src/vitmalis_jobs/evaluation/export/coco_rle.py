"""Run-length encoding of masks as COCO's tools read it: runs of a frame's pixels by columns, as text.

pycocotools has the same in C, and decodes what is made here; a run's export needs no compiler for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import pasted, window_in_frame
from vitmalis.types import BoolMask


def encoded(
    mask: NDArray[np.uint8], box_xyxy: NDArray[np.float32], size: tuple[int, int]
) -> tuple[dict[str, Any], int]:
    """Encode a mask in a frame.

    Args:
        mask: (MASK_SIDE, MASK_SIDE).
        box_xyxy: where it lies in the frame; what is outside of it is cut off.
        size: (width, height) of the frame.

    Returns:
        COCO's `segmentation`, and the number of pixels.
    """
    width, height = size
    window = left, top, *_ = window_in_frame(box_xyxy, size)
    drawn = pasted(mask, box_xyxy, window)
    runs = _runs(drawn, left * height + top, height, width * height)
    return {"size": [height, width], "counts": "".join(_characters(runs))}, int(drawn.sum())


def _runs(drawn: BoolMask, first: int, height: int, pixels: int) -> list[int]:
    """Lengths of runs outside and inside a mask in turn, by columns of the whole frame.

    Args:
        drawn: a window of the frame.
        first: number of the window's first pixel.
        height: of the frame.
        pixels: of the frame.
    """
    edges = np.diff(np.pad(drawn.astype(np.int8), ((1, 1), (0, 0))), axis=0).T  # by columns: 1 starts a run, -1 ends it
    column, row = np.nonzero(edges)
    places = first + column * height + row
    # A run that ends where the next column's begins goes on there.
    joined = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1
    places = np.delete(places, np.concatenate([joined, joined + 1]))
    return np.diff(places, prepend=0, append=pixels).tolist()


def _characters(runs: list[int]) -> Iterator[str]:
    """The text of run lengths: each is less the one before the last, in digits of 5 bits, the lowest first."""
    for number, run in enumerate(runs):
        value = run - (runs[number - 2] if number > 2 else 0)
        more = True
        while more:
            digit = value & 0x1F
            value >>= 5
            more = value != (-1 if digit & 0x10 else 0)
            yield chr(digit + (0x20 if more else 0) + 48)
