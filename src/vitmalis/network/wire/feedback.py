"""Parts of messages for offloads of two rounds: what the server is to ask back, and the regions that it asks back."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from vitmalis.network.wire.masks import Regions, check_mask_bits, unpack_mask
from vitmalis.types import BoolMask

Score = Annotated[float, Meta(ge=0, le=1)]


class UncertainScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client: ask back the regions of boxes with scores from `low` to below `high`, away from boxes above.

    Raises:
        ValueError: `low` is not below `high`.
    """

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
        check_mask_bits(self.rows, self.cols, self.bits)

    @classmethod
    def of(cls, mask: BoolMask) -> AskedRegions:
        """Build from a mask, bool (rows, cols)."""
        rows, cols = mask.shape
        return cls(rows, cols, np.packbits(mask).tobytes())

    @property
    def mask(self) -> BoolMask:
        """The regions as a mask, bool (rows, cols)."""
        return unpack_mask(self.rows, self.cols, self.bits)
