"""Masks of decision regions in messages: their bits by rows, the first region in the highest bit."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from vitmalis.types import BoolMask

Regions = Annotated[int, Meta(ge=0, le=512)]
"""Rows or columns of regions."""


def check_mask_bits(rows: int, cols: int, bits: bytes) -> None:
    """Raise `ValueError` unless the bytes are as many as a mask of these regions has."""
    if len(bits) != (rows * cols + 7) // 8:
        raise ValueError(f"{len(bits)} bytes of mask for {rows} x {cols} regions")


def unpack_mask(rows: int, cols: int, bits: bytes) -> BoolMask:
    """Unpack a mask, bool (rows, cols), from the bytes of `numpy.packbits`."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * cols).astype(bool).reshape(rows, cols)
