"""Admission checks: whether a model can serve an offload, before anything of the offload's size is allocated."""

from __future__ import annotations

from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.codec.packing import packed_size
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry

MAX_PIXELS = 1920 * 1080
"""Larger frames are refused unless a server has another limit."""
_SMALL_FRAMES = {"vitdet_tiny": 960 * 540}


def default_max_pixels(model: str) -> int:
    """Pixels of the largest frame that a model is meant for: what its file in `conf/model` has cameras deliver."""
    return _SMALL_FRAMES.get(model, MAX_PIXELS)


def max_pixels(model: str, megapixels: float | None) -> int:
    """Pixels of the largest frame that is served: as the command line says, else the largest that the model is for."""
    return default_max_pixels(model) if megapixels is None else round(megapixels * 1e6)


def decoder_environment(max_pixels: int) -> dict[str, str]:
    """Environment in which OpenCV itself refuses larger images; it is read when OpenCV is imported.

    A packed frame has more pixels than the frame: its regions are padded to whole patches, up to four times in a narrow
    frame.
    """
    return {"OPENCV_IO_MAX_IMAGE_PIXELS": str(4 * max_pixels)}


def refusal_reason(offload: Offload, jpeg: bytes, geometry: ModelGeometry, max_pixels: int) -> str | None:
    """Why an offload cannot be served, as a message to its sender, or None if it can.

    Args:
        offload: header of the offload.
        jpeg: its payload, of which only the structure is read.
        geometry: geometry of the served model.
        max_pixels: larger frames are refused.
    """
    if (offload.window_size, offload.downsampling_factor) != (geometry.window, geometry.factor):
        return (
            f"regions of window_size {offload.window_size} and downsampling_factor {offload.downsampling_factor}, "
            f"this model has {geometry.window} and {geometry.factor}"
        )
    if offload.restoration_point > geometry.restoration_points:
        return f"restoration point {offload.restoration_point}, this model has 0 to {geometry.restoration_points}"
    if offload.width * offload.height > max_pixels:
        frame = f"frame of {offload.width}x{offload.height}"
        return f"{frame}, at most {max_pixels} pixels are served (--max-megapixels of the server)"
    mask, regions = offload.downsample_mask, offload.regions
    if mask is not None and offload.tau_d == 0:
        return f"tau_d 0 downsamples nothing, the mask {int(mask.sum())} regions"
    try:
        size = jpeg_size(jpeg)
    except ValueError as error:
        return str(error)
    frame = f"{offload.width}x{offload.height}"
    if regions is None:
        return None if size == (offload.width, offload.height) else f"JPEG of {size[0]}x{size[1]}, announced as {frame}"
    height, width = packed_size(geometry.grid(offload.width, offload.height), regions)
    if size != (width, height):
        return f"JPEG of {size[0]}x{size[1]}, the mask packs a frame of {frame} into {width}x{height}"
    return None
