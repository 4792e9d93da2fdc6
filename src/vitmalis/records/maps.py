"""Where an offload treated parts of its frame differently, as text for a column of its record."""

from __future__ import annotations

import numpy as np

from vitmalis.offload import OffloadDecision
from vitmalis.types import BoolMask

FULL, LOW, CACHED, BLANK = "FLCB"
"""Letters of a region map: full resolution, low resolution, cached, painted flat."""


def region_map(decision: OffloadDecision) -> str:
    """A letter for each decision region in raster order; empty where all have full resolution."""
    letters = np.array(FULL)
    for letter, mask in ((BLANK, decision.blank_mask), (LOW, decision.downsample_mask), (CACHED, decision.cached_mask)):
        if mask is not None:
            letters = np.where(mask, letter, letters)
    text = "".join(letters.ravel())
    return text if text.strip(FULL) else ""


def read_region_map(text: str, letter: str, shape: tuple[int, int]) -> BoolMask:
    """Where a region map of this shape has a letter, bool; an empty one has `FULL` everywhere."""
    return np.array(list(text or FULL * shape[0] * shape[1])).reshape(shape) == letter


def block_map(mask: BoolMask | None) -> str:
    """The bits of a mask in raster order, as hexadecimal digits; empty for none."""
    return "" if mask is None else np.packbits(mask).tobytes().hex()


def read_block_map(text: str, shape: tuple[int, int]) -> BoolMask | None:
    """The mask of `block_map`, bool of this shape; None for an empty text, and for one of another shape."""
    try:
        bits = np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
        return None
    if not len(bits) or len(bits) != -(-shape[0] * shape[1] // 8):
        return None
    return np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)
