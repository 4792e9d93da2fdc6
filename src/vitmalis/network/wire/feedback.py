"""Parts of messages for offloads of two rounds: what the server is to ask back, and the regions that it asks back."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from vitmalis.types import BoolMask

Score = Annotated[float, Meta(ge=0, le=1)]
Regions = Annotated[int, Meta(ge=0, le=512)]
"""Rows or columns of regions."""


class UncertainScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client: ask back the regions of boxes with scores from `low` to below `high`, away from boxes above."""

    low: Score
    high: Score

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"uncertain scores from {self.low} to below {self.high}")


class AskedRegions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Server: the regions that it asks back, packed like the mask of an offload."""

    rows: Regions
    cols: Regions
    bits: bytes

    def __post_init__(self) -> None:
        if len(self.bits) != (self.rows * self.cols + 7) // 8:
            raise ValueError(f"{len(self.bits)} bytes of mask for {self.rows} x {self.cols} regions")

    @classmethod
    def of(cls, mask: BoolMask) -> AskedRegions:
        """Build from a mask, bool (rows, cols)."""
        rows, cols = mask.shape
        return cls(rows, cols, np.packbits(mask).tobytes())

    @property
    def mask(self) -> BoolMask:
        """The regions as a mask, bool (rows, cols)."""
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.rows * self.cols)
        return bits.astype(bool).reshape(self.rows, self.cols)
