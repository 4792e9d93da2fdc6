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
