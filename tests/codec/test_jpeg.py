from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.codec.jpeg_structure import jpeg_size

MANY = 10_000_000


def random_image(width: int = 80, height: int = 48) -> np.ndarray:
    """Smooth, with a red left and a blue right half."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (200, 30, 30)
    image[:, width // 2 :] = (30, 30, 200)
    return image


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def test_keeps_rgb_order_and_values() -> None:
    image = random_image()
    decoded = decode_jpeg(encode_jpeg(image, 95), MANY)
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image)[:, :32].max() <= 4
    assert np.abs(decoded.astype(int) - image)[:, 48:].max() <= 4


def test_chroma_is_at_half_resolution() -> None:
    data = encode_jpeg(random_image(), 95)
    at = data.index(b"\xff\xc0")
    assert data[at + 11] == 0x22  # sampling factors of the first component
    assert data[at + 14] == data[at + 17] == 0x11


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 100))
def test_size_is_read_without_decoding(width: int, height: int, quality: int) -> None:
    data = encode_jpeg(np.full((height, width, 3), 128, np.uint8), quality)
    assert jpeg_size(data) == (width, height)
    assert decode_jpeg(data, width * height).shape == (height, width, 3)


def test_lower_quality_is_smaller() -> None:
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8), (320, 240))
    sizes = [len(encode_jpeg(image, quality)) for quality in (25, 50, 75, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


def test_exif_orientation_does_not_turn_the_image() -> None:
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    data = encode_jpeg(random_image(80, 48), 90)
    turned = data[:2] + segment(0xE1, b"Exif\x00\x00" + tiff) + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (80, 48)  # the trap is real
    assert jpeg_size(turned) == (80, 48)
    assert decode_jpeg(turned, MANY).shape[:2] == (48, 80)


def test_refuses_before_decoding_what_has_too_many_pixels() -> None:
    data = encode_jpeg(random_image(80, 48), 50)
    assert decode_jpeg(data, 80 * 48).shape == (48, 80, 3)
    with pytest.raises(ValueError, match="JPEG of 80x48 has more than 3839 pixels"):
        decode_jpeg(data, 80 * 48 - 1)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def progressive(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a JPEG"),
        (b"hello", "not a JPEG"),
        (png(random_image()), "not a JPEG"),
        (encode_jpeg(random_image(), 90)[:-2], "truncated"),
        (encode_jpeg(random_image(), 90)[:300], "truncated"),
        (progressive(random_image()), "only baseline"),
        (b"\xff\xd8\xff\xd9", "without a frame header"),
        (b"\xff\xd8" + segment(0xC0, b"\x08\x00\x10") + b"\xff\xd9", "damaged frame header"),
        (b"\xff\xd8" + segment(0xC0, b"\x0c\x00\x10\x00\x10\x03") + b"\xff\xd9", "12 bits"),
        (b"\xff\xd8" + segment(0xC0, b"\x08\x00\x10\x00\x10\x04") + b"\xff\xd9", "4 components"),
        (b"\xff\xd8" + segment(0xC0, b"\x08\x00\x00\x00\x10\x03") + b"\xff\xd9", "16x0"),
        (encode_jpeg(random_image(), 90).replace(b"\xff\xdb", b"\xff\xfe"), "cannot be decoded"),  # no tables
    ],
)
def test_refuses_what_is_no_whole_baseline_jpeg(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_jpeg(data, MANY)


@settings(max_examples=100)
@given(st.data())
def test_mutated_jpegs_decode_to_their_size_or_raise_value_error(data: st.DataObject) -> None:
    mutated = bytearray(encode_jpeg(random_image(), 50))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_jpeg(bytes(mutated), MANY)
    except ValueError:
        return
    assert (decoded.shape[1], decoded.shape[0]) == jpeg_size(bytes(mutated))


def test_refuses_to_encode_what_is_no_rgb_image_or_quality() -> None:
    with pytest.raises(ValueError, match="float64"):
        encode_jpeg(np.zeros((16, 16, 3)), 90)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(16, 16\)"):
        encode_jpeg(np.zeros((16, 16), np.uint8), 90)
    for quality in (0, 101):
        with pytest.raises(ValueError, match=f"quality {quality} "):
            encode_jpeg(random_image(), quality)
    with pytest.raises(ValueError, match="cannot be a JPEG"):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8), 90)
