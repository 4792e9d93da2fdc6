"""From the bytes of offloads to the boxes in their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.packing import packed_size, unpack
from vitmalis.network.wire.messages import Offload
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

    def detect_each(self, images: Sequence[RgbImage]) -> list[Detections]:
        """`detect` in several images of one size, as one batch."""

    def detect_patches_each(
        self,
        patches: Sequence[NDArray[np.uint8]],
        image_size: tuple[int, int],
        downsample_masks: Sequence[BoolMask],
        restoration_point: int,
    ) -> list[Detections]:
        """`detect_patches` in several frames of one size and number of patches, as one batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A frame as it reaches the model.

    Attributes:
        offload: header it came with.
        mask: **B**, bool (rows, cols); None where nothing is downsampled.
        pixels: RGB uint8 (H, W, 3), or patches (T, patch, patch, 3) of both resolutions under a mask.
    """

    offload: Offload
    mask: BoolMask | None
    pixels: NDArray[np.uint8]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the sent frame."""
        return self.offload.height, self.offload.width


def decode_offload(geometry: ModelGeometry, offload: Offload, jpeg: bytes, max_pixels: int) -> Decoded:
    """Decode and unpack.

    Args:
        geometry: of the model.
        offload: header of the frame.
        jpeg: its payload.
        max_pixels: larger images are refused before decoding.

    Raises:
        ValueError: the payload is no JPEG of the size that the header leads to.
    """
    mask = offload.downsample_mask
    if mask is None:
        return Decoded(offload, None, decode_jpeg(jpeg, max_pixels))
    grid = geometry.grid(offload.width, offload.height)
    packed = decode_jpeg(jpeg, prod(packed_size(grid, mask)))
    return Decoded(offload, mask, unpack(packed, grid, mask))


def infer(detector: DetectorLike, frames: Sequence[Decoded]) -> list[Detections]:
    """Detect in several frames that are alike (`batch_key`) as one batch.

    Returns:
        Detections of each frame, in pixels of the sent one.

    Raises:
        RuntimeError: the detector answered another number of frames.
    """
    first = frames[0]
    if first.mask is None:
        images = [frame.pixels for frame in frames]
        found = [detector.detect(images[0])] if len(images) == 1 else detector.detect_each(images)
    else:
        found = _infer_patches(detector, frames, first.mask)
    if len(found) != len(frames):
        raise RuntimeError(f"the detector answered {len(found)} of {len(frames)} frames")
    return found


def _infer_patches(detector: DetectorLike, frames: Sequence[Decoded], first_mask: BoolMask) -> list[Detections]:
    first = frames[0]
    point = first.offload.restoration_point
    if len(frames) == 1:
        return [detector.detect_patches(first.pixels, first.image_size, first_mask, point)]
    masks = [frame.mask for frame in frames if frame.mask is not None]
    return detector.detect_patches_each([frame.pixels for frame in frames], first.image_size, masks, point)


def batch_key(offload: Offload, geometry: ModelGeometry) -> tuple[int, ...]:
    """What frames must have in common to be inferred as one batch: size, number of tokens, restoration point."""
    mask = offload.downsample_mask
    if mask is None:
        return offload.width, offload.height
    tokens = geometry.grid(offload.width, offload.height).tokens(mask)
    return offload.width, offload.height, tokens, offload.restoration_point
