"""The structure of a JPEG file (ITU-T T.81, annex B), checked in one walk before a decoder sees the file.

A JPEG can cost a decoder thousands of times as much as its length suggests: by a progressive mode, by scans repeated
without data, by a size that its data cannot fill. Only what `encode_jpeg` and a device's hardware encoder write is
accepted: 8-bit baseline, grey or colour, one frame header, each component in one scan. Marker segments follow each
other without fill bytes or other data in between, so that a decoder cannot find other headers than this walk did.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SEGMENTS = 256
"""Most marker segments of a file. Cameras write some twenty, most of them metadata."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE = (0xC0, 0xC1)
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_SCAN = 0xDA
_TABLES = (0xC4, 0xDB, 0xDD)  # Huffman, quantisation, restart interval
_METADATA = (*range(0xE0, 0xF0), 0xFE)  # APPn and comments
_ACCEPTED = frozenset((*_BASELINE, _SCAN, *_TABLES, *_METADATA))
_MARKER_AFTER_CODED_DATA = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # neither a stuffed byte nor a restart marker
_MIN_BLOCK_BITS = 2
"""Shortest code of a block of 8x8 samples: one bit for its mean, one that ends the block."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A marker segment; `coded_bytes` is the length of the entropy-coded data that follows a scan header."""

    marker: int
    body: bytes
    coded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _FrameHeader:
    """Size in pixels, and the number of 8x8 blocks of each component by its identifier."""

    width: int
    height: int
    blocks: dict[int, int]


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG whose structure is sound, without decoding; linear in its length.

    Raises:
        ValueError: not a whole JPEG of the accepted kind, or one whose data cannot hold that many pixels.
    """
    if not data.startswith(_START + b"\xff"):
        raise ValueError("not a JPEG")
    if not data.endswith(_END):
        raise ValueError("truncated JPEG (no end marker)")
    frame: _FrameHeader | None = None
    unscanned: set[int] = set()
    for segment in _segments(data):
        if segment.marker in _BASELINE:
            if frame is not None:
                raise ValueError("JPEG with two frame headers")
            frame = _frame_header(segment.body)
            unscanned = set(frame.blocks)
        elif segment.marker == _SCAN:
            if frame is None:
                raise ValueError("JPEG without a frame header before its data")
            unscanned -= _scan_components(segment, frame, unscanned)
    if frame is None:
        raise ValueError("JPEG without a frame header")
    if unscanned:
        raise ValueError(f"JPEG of {frame.width}x{frame.height} without data for {len(unscanned)} of its components")
    return frame.width, frame.height


def _segments(data: bytes) -> Iterator[_Segment]:
    """The marker segments between the start and the end marker, which is the last two bytes."""
    at, end = len(_START), len(data) - len(_END)
    for _ in range(MAX_SEGMENTS):
        if at == end:
            return
        marker = data[at + 1]
        if data[at] != 0xFF or marker not in _ACCEPTED:
            raise ValueError(_refusal(data[at], marker))
        body = at + 4
        following = at + 2 + int.from_bytes(data[at + 2 : body], "big")
        if not body <= following <= end:
            raise ValueError(f"JPEG with a segment of marker {marker:02X} that does not fit")
        at = following
        if marker == _SCAN and (found := _MARKER_AFTER_CODED_DATA.search(data, following)):
            at = found.start()
        yield _Segment(marker, data[body:following], at - following)
    raise ValueError(f"JPEG of more than {MAX_SEGMENTS} segments")


def _refusal(first: int, marker: int) -> str:
    if first == 0xFF and marker in _OTHER_FRAMES:
        return "only baseline JPEGs are taken (progressive, lossless and arithmetic ones are not)"
    return f"JPEG with the bytes {first:02X} {marker:02X} where a segment of a baseline JPEG has to begin"


def _frame_header(body: bytes) -> _FrameHeader:
    if len(body) < 6:
        raise ValueError("JPEG with a damaged frame header")
    bits, height, width, count = struct.unpack_from(">BHHB", body)
    if bits != 8 or count not in (1, 3):
        raise ValueError(f"JPEG of {count} components of {bits} bits, expected 1 or 3 of 8 bits")
    if not width or not height:
        raise ValueError(f"JPEG of {width}x{height} pixels")
    factors = {body[at]: divmod(body[at + 1], 16) for at in range(6, len(body) - 2, 3)}
    if len(body) != 6 + 3 * count or len(factors) != count:
        raise ValueError("JPEG with a damaged frame header")
    if not all(1 <= factor <= 4 for pair in factors.values() for factor in pair):
        raise ValueError("JPEG with a sampling factor outside 1..4")
    most_x, most_y = (max(pair[axis] for pair in factors.values()) for axis in (0, 1))
    blocks = {
        component: -(-width * x // (8 * most_x)) * -(-height * y // (8 * most_y))
        for component, (x, y) in factors.items()
    }
    return _FrameHeader(width, height, blocks)


def _scan_components(segment: _Segment, frame: _FrameHeader, unscanned: set[int]) -> set[int]:
    """Components of a scan, all of them still without data, whose coded data is long enough for their blocks."""
    body = segment.body
    count = body[0] if body else 0
    components = set(body[1 : 1 + 2 * count : 2])
    if not count or len(body) != 4 + 2 * count or len(components) != count or not components <= unscanned:
        raise ValueError("JPEG with a scan that is damaged or repeated")
    if segment.coded_bytes * 8 < sum(frame.blocks[component] for component in components) * _MIN_BLOCK_BITS:
        raise ValueError(f"{segment.coded_bytes} bytes of JPEG data cannot hold {frame.width}x{frame.height} pixels")
    return components
