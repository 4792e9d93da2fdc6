"""Decoding and inference: from the payloads of offloads to the detections in their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.packing import packed_size, unpack
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.types import BoolMask, Detections

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = NDArray[np.uint8] | Tensor
    """Bytes on the host, or on the model's device where a decoder left them there."""


class DetectorLike(Protocol):
    """The detector interface that a server needs."""

    @property
    def name(self) -> str:
        """Name of the model, such as `vitdet_tiny`."""

    @property
    def model_id(self) -> str:
        """Identity of architecture, weights and preprocessing."""

    @property
    def geometry(self) -> ModelGeometry:
        """Geometry of the regions that it accepts at low resolution, and its restoration points."""

    @property
    def batches_any_masks(self) -> bool:
        """Whether frames of different numbers of patches make a batch."""

    def detect(self, image: Pixels) -> Detections:
        """Detect in `image`, RGB uint8 (H, W, 3); boxes are in its pixels."""

    def detect_patches(
        self,
        patches: Pixels,
        image_size: tuple[int, int],
        downsample_mask: BoolMask,
        restoration_point: int,
    ) -> Detections:
        """Detect in the patches of `unpack`; boxes are in pixels of the frame, whose size is (height, width)."""

    def detect_each(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detect in several images of one size as one batch."""

    def detect_patches_each(
        self,
        patches: Sequence[Pixels],
        image_size: tuple[int, int],
        downsample_masks: Sequence[BoolMask],
        restoration_point: int,
    ) -> list[Detections]:
        """Detect in the patches of several frames of one `batch_key` as one batch."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A frame as the model receives it.

    Attributes:
        offload: header of its offload.
        regions: how each is treated; None where all are full.
        pixels: RGB uint8 (H, W, 3), or with `regions` the patches (T, patch, patch, 3) of both resolutions.
    """

    offload: Offload
    regions: AnyTreatments | None
    pixels: Pixels

    @property
    def mask(self) -> BoolMask | None:
        """**B**, bool (rows, cols); None where nothing is downsampled."""
        return self.offload.downsample_mask

    @property
    def image_size(self) -> tuple[int, int]:
        """Size of the sent frame, (height, width)."""
        return self.offload.height, self.offload.width


class Decoder(Protocol):
    """What turns payloads of offloads into frames."""

    def __call__(self, geometry: ModelGeometry, offload: Offload, jpeg: bytes, max_pixels: int) -> DecodedFrame:
        """Decode an offload, see `decode_offload`."""


def decode_offload(geometry: ModelGeometry, offload: Offload, jpeg: bytes, max_pixels: int) -> DecodedFrame:
    """Decode a JPEG and, where regions are downsampled or cached, unpack it.

    Args:
        geometry: geometry of the model.
        offload: header of the offload.
        jpeg: its payload.
        max_pixels: larger images are refused before decoding.

    Raises:
        ValueError: the payload is not a JPEG of the size that follows from the header.
    """
    regions = offload.regions
    if regions is None:
        return DecodedFrame(offload, None, decode_jpeg(jpeg, max_pixels))
    grid = geometry.grid(offload.width, offload.height)
    packed = decode_jpeg(jpeg, prod(packed_size(grid, regions)))
    return DecodedFrame(offload, regions, unpack(packed, grid, regions))


def infer(detector: DetectorLike, frames: Sequence[DecodedFrame]) -> list[Detections]:
    """Detect in frames of one `batch_key` as one batch.

    Returns:
        Detections of each frame, boxes in pixels of the sent frame.

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


def _infer_patches(detector: DetectorLike, frames: Sequence[DecodedFrame], first_mask: BoolMask) -> list[Detections]:
    first = frames[0]
    point = first.offload.restoration_point
    if len(frames) == 1:
        return [detector.detect_patches(first.pixels, first.image_size, first_mask, point)]
    masks = [frame.mask for frame in frames if frame.mask is not None]
    return detector.detect_patches_each([frame.pixels for frame in frames], first.image_size, masks, point)


def batch_key(offload: Offload, detector: DetectorLike) -> tuple[int, ...] | None:
    """What frames of one batch have in common: size and, with a mask, restoration point and number of tokens.

    The number of tokens does not matter to a detector that batches any masks. None for a frame that is inferred alone,
    as its tokens are cached.
    """
    if offload.caching is not UNSET:
        return None
    mask = offload.downsample_mask
    if mask is None:
        return offload.width, offload.height
    alike = (offload.width, offload.height, offload.restoration_point)
    if detector.batches_any_masks:
        return alike
    return *alike, detector.geometry.grid(offload.width, offload.height).tokens(mask)
