"""Decoding of offloads on a GPU by torchvision's decoder, so that the pixels of a frame never leave it.

The checks before decoding are those of the CPU's decoder. The GPU's upsamples chroma by another filter than libjpeg, so
pixels differ at edges of colours, and boxes with them in their last digits.
"""

from __future__ import annotations

import logging
import warnings
from math import prod

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from vitmalis.codec.jpeg import checked_size, encode_jpeg
from vitmalis.codec.packing import packed_places, packed_size
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.server.decoding import DecodedFrame, Decoder, decode_offload

_log = logging.getLogger(__name__)


def device_decoder(device: torch.device) -> Decoder:
    """A decoder on a device; the CPU's where torchvision cannot decode there, which is logged."""
    probe = encode_jpeg(np.zeros((16, 16, 3), np.uint8), 90)
    try:
        if device.type == "cpu":
            raise RuntimeError("the model is on the CPU")
        _decode_on(device, probe)
    except (RuntimeError, ValueError) as error:
        _log.warning("JPEGs are decoded on the CPU: %s", str(error).strip().splitlines()[0])
        return decode_offload
    return DeviceDecoder(device)


class DeviceDecoder:
    """`decode_offload` on a device; frames that its decoder refuses are decoded on the CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, geometry: ModelGeometry, offload: Offload, jpeg: bytes, max_pixels: int) -> DecodedFrame:
        """Decode an offload; arguments and errors as of `decode_offload`."""
        regions, grid = offload.regions, geometry.grid(offload.width, offload.height)
        size = (offload.height, offload.width) if regions is None else packed_size(grid, regions)
        width, height = checked_size(jpeg, max_pixels if regions is None else prod(size))
        if regions is not None and (height, width) != size:
            raise ValueError(f"image is of {width}x{height} pixels, expected {size[1]}x{size[0]}")
        try:
            image = _decode_on(self._device, jpeg)
        except RuntimeError as error:
            _log.debug("a JPEG that the device's decoder refuses: %s", error)
            return decode_offload(geometry, offload, jpeg, max_pixels)
        return DecodedFrame(offload, regions, image if regions is None else unpack_on_device(image, grid, regions))


def unpack_on_device(packed: Tensor, grid: RegionGrid, regions: AnyTreatments) -> Tensor:
    """`codec.packing.unpack` where the packed frame, uint8 (H, W, 3), is: uint8 (T, patch, patch, 3)."""
    rows, cols = torch.from_numpy(packed_places(grid, regions)).to(packed.device, non_blocking=True)
    side = grid.patch_px
    tiles = packed.unflatten(1, (-1, side)).unflatten(0, (-1, side)).transpose(1, 2)  # (rows, cols, patch, patch, 3)
    return tiles[rows, cols]


def _decode_on(device: torch.device, jpeg: bytes) -> Tensor:
    """Decompress to RGB uint8 (H, W, 3) on a device; raises `RuntimeError` if its decoder cannot."""
    with warnings.catch_warnings():  # torchvision announces that another package will have the decoder
        warnings.simplefilter("ignore")
        data = torch.frombuffer(bytearray(jpeg), dtype=torch.uint8)
        return decode_jpeg(data, ImageReadMode.RGB, device=device).permute(1, 2, 0)
