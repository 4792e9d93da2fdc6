"""Part of an offload whose tokens are to be cached."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from vitmalis.network.wire.masks import check_mask_bits, unpack_mask
from vitmalis.offload import TokenCaching
from vitmalis.types import BoolMask, Displacements

NO_BASE = -1
"""Number of the base of an offload without cached regions."""


class Caching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Client: the frame's tokens are to be cached, and regions take theirs from an earlier frame.

    Attributes:
        base: the offload whose cached tokens the cached regions take; `NO_BASE` without such regions.
        mask_bits: which regions are cached, packed like the downsample mask; empty for none.
        moves: by how many tokens the content of each cached region has moved since: two signed bytes, down and to the
            right, by rows of regions; empty where all are zero.
    """

    base: Annotated[int, Meta(ge=NO_BASE, le=2**53)] = NO_BASE
    mask_bits: bytes = b""
    moves: bytes = b""

    @classmethod
    def of(cls, caching: TokenCaching) -> Caching:
        """Build from the library's type."""
        if caching.mask is None or caching.base is None or not caching.mask.any():
            return cls()
        moved = caching.displacements
        moves = b"" if moved is None or not moved[caching.mask].any() else moved[caching.mask].astype(np.int8).tobytes()
        return cls(caching.base, np.packbits(caching.mask).tobytes(), moves)

    def check(self, shape: tuple[int, int]) -> None:
        """Raise `ValueError` unless this fits a frame with so many rows and columns of regions."""
        regions = shape[0] * shape[1]
        if self.mask_bits:
            check_mask_bits(*shape, self.mask_bits)
        mask = self.mask(shape)
        cached = 0 if mask is None else int(mask.sum())
        if cached == regions:
            raise ValueError("all regions are cached: at least one has to be sent")
        if (self.base == NO_BASE) != (cached == 0):
            raise ValueError(f"{cached} cached regions of offload {self.base}")
        if len(self.moves) not in (0, 2 * cached):
            raise ValueError(f"{len(self.moves)} bytes of moves for {cached} cached regions")

    def mask(self, shape: tuple[int, int]) -> BoolMask | None:
        """The cached regions, bool (rows, cols); None for none."""
        mask = unpack_mask(*shape, self.mask_bits) if self.mask_bits else None
        return mask if mask is not None and mask.any() else None

    def displacements(self, shape: tuple[int, int]) -> Displacements:
        """By how many tokens the content of each region has moved, int8 (rows, cols, 2); 0 where it is not cached."""
        moved = np.zeros((*shape, 2), np.int8)
        if self.moves:
            moved[self.mask(shape)] = np.frombuffer(self.moves, np.int8).reshape(-1, 2)
        return moved
