"""Run-length encoding of masks as COCO's tools read it: runs of a frame's pixels by columns, as text.

pycocotools has the same in C, and decodes what is made here; a run's export needs no compiler for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vitmalis.types import BoolMask


def encoded(drawn: BoolMask, corner: tuple[int, int], frame_size: tuple[int, int]) -> dict[str, Any]:
    """Encode the pixels of an object in a frame, as COCO's `segmentation`.

    Args:
        drawn: a window of the frame, True for the object's pixels.
        corner: left and top of the window.
        frame_size: (width, height).
    """
    (left, top), (width, height) = corner, frame_size
    runs = _runs(drawn, left * height + top, height, width * height)
    return {"size": [height, width], "counts": "".join(_characters(runs))}


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
