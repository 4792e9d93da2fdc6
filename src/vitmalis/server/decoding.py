"""From the bytes of an offload to an inference that can be run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.packing import packed_size, unpack
from vitmalis.network.messages import Offload
from vitmalis.regions.grid import ModelGeometry
from vitmalis.types import BoolMask, Detections, RgbImage


class DetectorLike(Protocol):
    """What a server needs of a detector."""

    @property
    def name(self) -> str:
        """Model name, such as `vitdet_tiny`."""

    @property
    def model_id(self) -> str:
        """Identity of architecture, weights and preprocessing."""

    @property
    def geometry(self) -> ModelGeometry:
        """The regions it can take at low resolution, and where it can restore them."""

    def detect(self, image: RgbImage) -> Detections:
        """Boxes in pixels of `image`, RGB uint8 (H, W, 3)."""

    def detect_patches(
        self,
        patches: NDArray[np.uint8],
        image_size: tuple[int, int],
        downsample_mask: BoolMask,
        restoration_point: int,
    ) -> Detections:
        """Boxes in pixels of the frame (height, width) that `unpack` cut `patches` from."""


def decode_offload(detector: DetectorLike, offload: Offload, jpeg: bytes, max_pixels: int) -> Callable[[], Detections]:
    """Decode and unpack; what is returned infers, with boxes in pixels of the sent frame.

    Args:
        detector: the model.
        offload: header of the frame.
        jpeg: its payload.
        max_pixels: larger images are refused before decoding.

    Raises:
        ValueError: the payload is no JPEG of the size that the header leads to.
    """
    mask = offload.downsample_mask
    if mask is None:
        return partial(detector.detect, decode_jpeg(jpeg, max_pixels))
    grid = detector.geometry.grid(offload.width, offload.height)
    packed = decode_jpeg(jpeg, prod(packed_size(grid, mask)))
    patches = unpack(packed, grid, mask)
    return partial(detector.detect_patches, patches, (offload.height, offload.width), mask, offload.restoration_point)
