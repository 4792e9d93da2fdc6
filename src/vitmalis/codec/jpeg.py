"""JPEG encoding and decoding of frames: baseline, 4:2:0; the size is checked before anything is decoded."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.types import RgbImage

_BASELINE = (0xC0, 0xC1)
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
# Without a length field (or, for the start of scan, followed by data): none may come before the frame header.
_NOT_A_SEGMENT = (0x01, *range(0xD0, 0xDB))


def encode_jpeg(image: RgbImage, quality: int) -> bytes:
    """Compress an RGB image (H, W, 3) at `quality` 1..100, chroma at half resolution (4:2:0).

    Raises:
        ValueError: not such an image, or a quality outside 1..100 (OpenCV would silently clip it).
    """
    _check_image(image)
    return encode_bgr(to_bgr(image), quality)


def to_bgr(image: RgbImage) -> NDArray[np.uint8]:
    """Copy an RGB image (H, W, 3) with its channels in OpenCV's order."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def encode_bgr(image: NDArray[np.uint8], quality: int) -> bytes:
    """`encode_jpeg` of an image whose channels are in OpenCV's order already.

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


def decode_jpeg(data: bytes, max_pixels: int) -> RgbImage:
    """Decompress to RGB uint8 (H, W, 3); nothing is decoded before the size in the header passed `max_pixels`.

    Raises:
        ValueError: not a whole baseline JPEG, or more than `max_pixels` pixels.
    """
    width, height = jpeg_size(data)
    if width * height > max_pixels:
        raise ValueError(f"JPEG of {width}x{height} has more than {max_pixels} pixels")
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


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the frame header, without decoding.

    Only what `encode_jpeg` and a device's hardware encoder write is accepted: 8-bit baseline, grey or colour. A
    progressive JPEG can cost a decoder thousands of times as much as its length suggests.

    Raises:
        ValueError: not a whole JPEG of this kind.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        raise ValueError("not a JPEG")
    if not data.endswith(b"\xff\xd9"):
        raise ValueError("truncated JPEG (no end marker)")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _BASELINE and length >= 8 and at + 10 <= len(data):
            return _frame_size(*struct.unpack_from(">BHHB", data, at + 4))
        if marker in _OTHER_FRAMES:
            raise ValueError("only baseline JPEGs are taken (progressive, lossless and arithmetic ones are not)")
        if marker in _NOT_A_SEGMENT or length < 2:
            break
        at += 2 + length
    raise ValueError("JPEG without a frame header")


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")


def _frame_size(bits: int, height: int, width: int, components: int) -> tuple[int, int]:
    if bits != 8 or components not in (1, 3):
        raise ValueError(f"JPEG of {components} components of {bits} bits, expected 1 or 3 of 8 bits")
    if not width or not height:
        raise ValueError(f"JPEG of {width}x{height} pixels")
    return width, height
