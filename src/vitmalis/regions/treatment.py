"""The treatments of decision regions in an offload, which codec, backbone, costs and policies share."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vitmalis.types import BoolMask


class Treatment(IntEnum):
    """What is sent of a region."""

    FULL = 0
    """Its pixels."""

    LOW = 1
    """Its pixels at low resolution."""

    CACHED = 2
    """Nothing: its tokens come back at the restoration point from an earlier frame, which the server keeps."""


Treatments: TypeAlias = NDArray[np.int8]
"""int8 (rows, cols) of `Treatment`."""

AnyTreatments: TypeAlias = BoolMask | Treatments
"""`Treatments`, or a downsample mask: bool (rows, cols), True for low resolution, which has no cached regions."""


def treated(downsample_mask: BoolMask | None, cached_mask: BoolMask | None) -> AnyTreatments | None:
    """The treatments of a frame's regions from two masks, bool (rows, cols); None where all of them are full.

    A region of both masks is cached.
    """
    low = downsample_mask if downsample_mask is not None and downsample_mask.any() else None
    if cached_mask is None or not cached_mask.any():
        return low
    treatments = np.zeros(cached_mask.shape, np.int8) if low is None else low.astype(np.int8)
    treatments[cached_mask] = Treatment.CACHED
    return treatments
