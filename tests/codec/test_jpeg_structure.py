"""Which JPEGs reach the decoder: those whose headers it cannot read otherwise, and whose pixels their data can hold."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.jpeg_structure import MAX_SEGMENTS, jpeg_size

START, END = b"\xff\xd8", b"\xff\xd9"
WIDTH, HEIGHT = 48, 32
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def encoded(image: np.ndarray = PIXELS, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def frame(width: int, height: int, components: tuple[int, ...] = (1, 2, 3), factors: int = 0x11) -> bytes:
    """A baseline frame header, all components at full resolution."""
    head = bytes([8, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), len(components)])
    return segment(0xC0, head + b"".join(bytes([component, factors, 0]) for component in components))


def scan(*components: int) -> bytes:
    return segment(0xDA, bytes([len(components)]) + b"".join(bytes([each, 0]) for each in components) + b"\0\x3f\0")


def sizes_as_decoded(data: bytes) -> tuple[int, int]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return image.shape[1], image.shape[0]


GREY = encoded(PIXELS[:, :, 0])
TABLES = GREY[2 : GREY.index(b"\xff\xc0")] + GREY[GREY.index(b"\xff\xc4") : GREY.index(b"\xff\xda")]
CODED = GREY[GREY.index(b"\xff\xda") + 10 : -2]
"""The entropy-coded data of one component of `PIXELS`."""
SEPARATE = (scan(1) + CODED, scan(2) + CODED, scan(3) + CODED)
WHOLE = START + TABLES + frame(WIDTH, HEIGHT) + b"".join(SEPARATE) + END


@pytest.mark.parametrize(
    "data",
    [
        encoded(),
        GREY,
        encoded(PIXELS, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        encoded(PIXELS, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        *(encoded(PIXELS, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor) for factor in (0x411111, 0x211111, 0x111111)),
        START + segment(0xFE, b"a comment \xff\xd9") + segment(0xE1, b"Exif") + encoded()[2:],
        WHOLE,  # each component in a scan of its own
    ],
)
def test_what_encoders_write_is_accepted(data: bytes) -> None:
    assert jpeg_size(data) == (WIDTH, HEIGHT)
    assert decode_jpeg(data, WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([0x411111, 0x221111, 0x121111, 0x111111]))
def test_the_smallest_data_an_encoder_writes_is_enough(width: int, height: int, factors: int) -> None:
    flat = np.full((height, width, 3), 128, np.uint8)
    options = (cv2.IMWRITE_JPEG_QUALITY, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors)
    assert jpeg_size(encoded(flat, *options)) == (width, height)


def test_a_fill_byte_cannot_hide_a_frame_header() -> None:
    progressive = encoded(np.zeros((400, 400, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    at = progressive.index(b"\xff\xc2")
    # FF C2 after the fill byte reads as a marker FF with a segment of 0xC200 bytes and some, before a small frame.
    hidden = progressive[:at] + b"\xff" + progressive[at:]
    length = int.from_bytes(hidden[at + 2 : at + 4], "big")
    hidden = hidden.ljust(at + 2 + length, b"\0") + encoded()[2:]
    assert sizes_as_decoded(hidden) == (400, 400)  # the trap is real
    with pytest.raises(ValueError, match="FF FF where a segment"):
        jpeg_size(hidden)


def test_a_size_that_the_data_cannot_fill_is_refused() -> None:
    small = encoded(np.zeros((16, 16, 3), np.uint8))
    at = small.index(b"\xff\xc0") + 5
    bomb = small[:at] + (3000).to_bytes(2, "big") * 2 + small[at + 4 :]
    assert len(bomb) < 700
    assert sizes_as_decoded(bomb) == (3000, 3000)  # the trap is real
    with pytest.raises(ValueError, match="bytes of JPEG data cannot hold 3000x3000 pixels"):
        jpeg_size(bomb)


def test_a_repeated_scan_is_refused() -> None:
    bomb = WHOLE[:-2] + SEPARATE[0] * 50 + END
    assert sizes_as_decoded(bomb) == (WIDTH, HEIGHT)  # the trap is real
    with pytest.raises(ValueError, match="scan that is damaged or repeated"):
        jpeg_size(bomb)


HEAD = START + TABLES + frame(WIDTH, HEIGHT)
SCANS = b"".join(SEPARATE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (START + TABLES + SCANS + END, "without a frame header before its data"),
        (START + TABLES + frame(WIDTH, HEIGHT) * 2 + SCANS + END, "two frame headers"),
        (HEAD + SCANS + frame(4000, 4000) + END, "two frame headers"),
        (HEAD + SCANS + segment(0xC2, b"\x08\x0f\xa0\x0f\xa0\x01\x01\x11\x00") + END, "only baseline"),
        (HEAD + SEPARATE[0] + SEPARATE[2] + END, "48x32 without data for 1 of its components"),
        (HEAD + END, "without data for 3 of its components"),
        (HEAD + scan(1) + CODED[:5] + END, "5 bytes of JPEG data cannot hold 48x32"),
        (HEAD + SEPARATE[0] + scan(1, 2) + CODED * 2 + END, "damaged or repeated"),
        (HEAD + scan(1, 1, 2) + CODED * 3 + END, "damaged or repeated"),
        (HEAD + scan(1, 2, 4) + CODED * 3 + END, "damaged or repeated"),
        (HEAD + scan() + CODED + END, "damaged or repeated"),
        (HEAD + segment(0xDA) + CODED + END, "damaged or repeated"),
        (HEAD + segment(0xDA, b"\x03\x01\x00") + CODED + END, "damaged or repeated"),
        (HEAD + SCANS + segment(0xDC, b"\xff\xff") + END, "bytes FF DC where"),  # a later number of lines
        (HEAD + b"garbage" + SCANS + END, "bytes 67 61 where"),
        (HEAD + b"\0" + SCANS + END, "bytes 00 FF where"),
        (HEAD + SEPARATE[0] + b"\xff" + SEPARATE[1] + SEPARATE[2] + END, "bytes FF FF where"),
        (HEAD + SEPARATE[0] + b"\xff\x01" + SEPARATE[1] + SEPARATE[2] + END, "bytes FF 01 where"),
        (WHOLE + SCANS + END, "bytes FF D9 where"),
        (START + segment(0xFE) * MAX_SEGMENTS + WHOLE[2:], f"more than {MAX_SEGMENTS} segments"),
        (START + b"\xff\xfe\0\1" + WHOLE[2:], "marker FE that does not fit"),
        (START + b"\xff\xfe\xff\xff" + END, "marker FE that does not fit"),
        (START + TABLES + frame(WIDTH, HEIGHT, (1, 1, 3)) + SCANS + END, "damaged frame header"),
        (START + TABLES + frame(WIDTH, HEIGHT, (1, 2, 3))[:-1] + SCANS + END, "does not fit|where a segment"),
        (START + TABLES + frame(WIDTH, HEIGHT, factors=0x01) + SCANS + END, "sampling factor"),
        (START + TABLES + frame(WIDTH, HEIGHT, factors=0x15) + SCANS + END, "sampling factor"),
        (START + TABLES + segment(0xC0, b"\x08\0\x10\0\x10\x03" + b"\x01\x11\0" * 9) + SCANS + END, "damaged frame"),
        (START + b"\xff" + END, "bytes FF FF where"),
    ],
)
def test_refuses_what_a_decoder_could_read_otherwise(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jpeg_size(data)


@settings(max_examples=200)
@given(st.data())
def test_the_decoder_finds_the_same_size_in_whatever_is_accepted(data: st.DataObject) -> None:
    pieces = (TABLES, frame(WIDTH, HEIGHT), frame(16, 16), *SEPARATE, segment(0xFE, b"x"), b"\xff", b"\0", END, START)
    body = b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=8)))
    mixed = START + TABLES + body + END
    try:
        size = jpeg_size(mixed)
    except ValueError:
        return
    assert sizes_as_decoded(mixed) == size
