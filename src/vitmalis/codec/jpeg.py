"""JPEG encoding and decoding of frames: baseline, 4:2:0; structure and size are checked before anything is decoded."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.types import RgbImage


def encode_jpeg(image: RgbImage, quality: int) -> bytes:
    """Compress an RGB image (H, W, 3) at `quality` 1..100, chroma at half resolution (4:2:0).

    Raises:
        ValueError: not such an image, or a quality outside 1..100 (OpenCV would silently clip it).
    """
    _check_image(image)
    return encode_bgr(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8), quality)


def encode_bgr(image: NDArray[np.uint8], quality: int) -> bytes:
    """`encode_jpeg` of an image (H, W, 3) whose channels are in OpenCV's order already.

    Raises:
        ValueError: as of `encode_jpeg`.
    """
    _check_image(image)
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality {quality} is outside 1..100")
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    encoded, data = cv2.imencode(".jpg", image, options)
    if not encoded:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} cannot be a JPEG")
    return data.tobytes()


def checked_size(data: bytes, max_pixels: int) -> tuple[int, int]:
    """(width, height) of a JPEG that may be decoded.

    Raises:
        ValueError: not a whole baseline JPEG, or more than `max_pixels` pixels.
    """
    width, height = jpeg_size(data)
    if width * height > max_pixels:
        raise ValueError(f"JPEG of {width}x{height} has more than {max_pixels} pixels")
    return width, height


def decode_jpeg(data: bytes, max_pixels: int) -> RgbImage:
    """Decompress to RGB uint8 (H, W, 3); nothing is decoded before `jpeg_structure` accepted the file and its size.

    Raises:
        ValueError: not a whole baseline JPEG, or more than `max_pixels` pixels.
    """
    width, height = checked_size(data, max_pixels)
    # An EXIF orientation would rotate the image after its size was checked.
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"JPEG data that cannot be decoded: {error.err}") from error
    if image is None:
        raise ValueError("JPEG data that cannot be decoded")
    if image.shape != (height, width, 3):
        raise ValueError(f"JPEG decodes to {image.shape[1]}x{image.shape[0]}, its header says {width}x{height}")
    return np.asarray(image, np.uint8)


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
