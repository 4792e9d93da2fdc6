"""What an offload has to be for a model to serve it: pure checks, before anything of its size is allocated."""

from __future__ import annotations

from vitmalis.codec.jpeg import jpeg_size
from vitmalis.codec.packing import packed_size
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry


def objection(offload: Offload, jpeg: bytes, geometry: ModelGeometry, max_pixels: int) -> str | None:
    """Why an offload cannot be served, in words for its sender, or None.

    Args:
        offload: the header.
        jpeg: the payload, of which only the header is read.
        geometry: of the model that serves.
        max_pixels: larger frames are not served.
    """
    if (offload.window_size, offload.downsampling_factor) != (geometry.window, geometry.factor):
        return (
            f"regions of window_size {offload.window_size} and downsampling_factor {offload.downsampling_factor}, "
            f"this model has {geometry.window} and {geometry.factor}"
        )
    if offload.restoration_point > geometry.restoration_points:
        return f"restoration point {offload.restoration_point}, this model has 0 to {geometry.restoration_points}"
    if offload.width * offload.height > max_pixels:
        return f"frame of {offload.width}x{offload.height}, at most {max_pixels} pixels are served"
    mask = offload.downsample_mask
    if mask is not None and offload.tau_d == 0:
        return f"tau_d 0 downsamples nothing, the mask {int(mask.sum())} regions"
    try:
        size = jpeg_size(jpeg)
    except ValueError as error:
        return str(error)
    frame = f"{offload.width}x{offload.height}"
    if mask is None:
        return None if size == (offload.width, offload.height) else f"JPEG of {size[0]}x{size[1]}, announced as {frame}"
    height, width = packed_size(geometry.grid(offload.width, offload.height), mask)
    if size != (width, height):
        return f"JPEG of {size[0]}x{size[1]}, the mask packs a frame of {frame} into {width}x{height}"
    return None
