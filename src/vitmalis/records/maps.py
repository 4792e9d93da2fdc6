"""Where an offload treated parts of its frame differently, as text for a column of its record."""

from __future__ import annotations

import numpy as np

from vitmalis.offload import OffloadDecision
from vitmalis.types import BoolMask

FULL, LOW, CACHED, BLANK = "FLCB"
"""Letters of a region map: full resolution, low resolution, cached, painted flat."""
_OTHER = "?"
"""Letter of a treatment without one."""


def region_map(decision: OffloadDecision) -> str:
    """A letter for each decision region in raster order; empty where all have full resolution."""
    if decision.blank_mask is not None:
        letters = np.where(decision.blank_mask, BLANK, FULL)
    elif decision.downsample_mask is not None:
        known = np.array([FULL, LOW, CACHED, _OTHER])  # by the value of `vitmalis.regions.Treatment`
        letters = known[np.minimum(decision.downsample_mask.astype(int), len(known) - 1)]
    else:
        return ""
    text = "".join(letters.ravel())
    return text if text.strip(FULL) else ""


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
