"""Parts of an offloaded frame that were sent in another way than whole or at low resolution, from its record."""

from __future__ import annotations

import numpy as np

from vitmalis.codec.macroblocks import MACROBLOCK_PX, macroblock_shape
from vitmalis.records import OffloadRecord, maps

_NAMES = {maps.CACHED: "cached", maps.BLANK: "painted flat"}


def marked_regions(region_map: str) -> dict[str, list[int]]:
    """Indices of the regions that are neither of full nor of low resolution, by what became of them.

    A letter that is not known here, from a later version, is named as it is.
    """
    found: dict[str, list[int]] = {}
    for index, letter in enumerate(region_map):
        if letter not in (maps.FULL, maps.LOW):
            found.setdefault(_NAMES.get(letter, f"treatment {letter}"), []).append(index)
    return found


def coarse_areas(offload: OffloadRecord, width_px: int, height_px: int) -> list[list[int]]:
    """Left, top, right and bottom in pixels of the runs of coarse macroblocks in each row of a frame."""
    mask = maps.read_block_map(offload.coarse_map, macroblock_shape(width_px, height_px))
    if mask is None:
        return []
    areas = []
    for row, blocks in enumerate(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)):
        edges = np.flatnonzero(np.diff(blocks)).reshape(-1, 2)
        top, bottom = row * MACROBLOCK_PX, min((row + 1) * MACROBLOCK_PX, height_px)
        sides = np.minimum(edges * MACROBLOCK_PX, width_px).tolist()
        areas += [[left, top, right, bottom] for left, right in sides]
    return areas
