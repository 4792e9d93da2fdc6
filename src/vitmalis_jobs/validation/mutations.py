"""Damaged messages of a client: mutations of valid ones, which are the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from vitmalis.client.header import offload_header
from vitmalis.codec.offload import encode_offload
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.offload import FeedbackRequest, OffloadDecision, TokenCaching
from vitmalis.regions import ModelGeometry
from vitmalis.types import Configuration, Frame

CONFIGURATION = Configuration(0, 50, 1)
FEEDBACK = FeedbackRequest(0.2, 0.9, Configuration(2, 50, 1))
Frames = list[bytes]
"""Frames of one ZeroMQ message."""
MAX_MESSAGE_BYTES = 40 * 2**20
"""Most bytes of a message, beyond what a server takes; mutations multiply, and some would make one of 15 GB."""


class Mutator:
    """Generator of mutated client messages.

    Args:
        geometry: geometry of the model that the messages are for.
        seed: seed of messages and mutations.
        size: width and height of the frames that are offloaded.
    """

    def __init__(self, geometry: ModelGeometry, seed: int, size: tuple[int, int]) -> None:
        self._random = random.Random(seed)
        self._geometry = geometry
        noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        grid = geometry.grid(*size)
        self._frame = Frame(0, 0.0, noise)
        self._cached = np.arange(grid.region_patches.size).reshape(grid.shape) > 0
        in_part = OffloadDecision(CONFIGURATION, caching=TokenCaching(0, self._cached))
        self._jpeg, self._jpeg_in_part = (
            encode_offload(noise, decision, grid).jpeg for decision in (OffloadDecision(CONFIGURATION), in_part)
        )
        self._seq = self._base = 0

    def message(self) -> Frames:
        """Frames of one message, mutated at least once."""
        frames = self._valid()
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            mutated = self._random.choice(self._mutations)(self, frames)
            if sum(map(len, mutated)) <= MAX_MESSAGE_BYTES:
                frames = mutated
        return frames

    def _valid(self) -> Frames:
        self._seq += 1
        kinds = (m.Hello("fuzz"), m.Announce(self._seq), m.Ping(self._seq), None, None, None)
        message = self._random.choice(kinds)
        return self._offload() if message is None else coding.encode(message)

    def _offload(self) -> Frames:
        """An offload: plain, or to be cached and asked back, or with regions that are cached from such a one."""
        kind = self._random.choice(("plain", "whole", "in part"))
        decision = OffloadDecision(CONFIGURATION)
        if kind == "whole":
            self._base, decision = self._seq, OffloadDecision(CONFIGURATION, feedback=FEEDBACK, caching=TokenCaching())
        elif kind == "in part":
            decision = OffloadDecision(CONFIGURATION, caching=TokenCaching(self._base, self._cached))
        header = offload_header(self._seq, self._frame, decision, self._geometry)
        return coding.encode(header, self._jpeg_in_part if kind == "in part" else self._jpeg)

    def announce(self) -> Frames:
        """Frames that announce the last generated offload, so that the server does not refuse it unread."""
        return coding.encode(m.Announce(self._seq))

    def _flip(self, frames: Frames) -> Frames:
        """Flip some bits of one frame."""
        index = self._random.randrange(len(frames))
        frame = bytearray(frames[index])
        for _ in range(self._random.choice((1, 1, 4, 32)) if frame else 0):
            frame[self._random.randrange(len(frame))] ^= 1 << self._random.randrange(8)
        return [*frames[:index], bytes(frame), *frames[index + 1 :]]

    def _cut(self, frames: Frames) -> Frames:
        """Cut off the end of one frame."""
        index = self._random.randrange(len(frames))
        return [*frames[:index], frames[index][: self._random.randrange(len(frames[index]) + 1)], *frames[index + 1 :]]

    def _stretch(self, frames: Frames) -> Frames:
        """Append random bytes to one frame, sometimes megabytes."""
        index = self._random.randrange(len(frames))
        more = self._random.randbytes(self._random.choice((1, 1, 100, 100, 70_000, 3_000_000)))
        return [*frames[:index], frames[index] + more, *frames[index + 1 :]]

    def _shuffle(self, frames: Frames) -> Frames:
        """Repeat, drop and reorder frames."""
        return self._random.choices(frames, k=self._random.randrange(1, 6))

    def _multiply(self, frames: Frames) -> Frames:
        """Append up to thousands of frames, mostly empty ones."""
        more = self._random.choice((b"", b"", b"x", frames[0]))
        return [*frames, *[more] * self._random.choice((1, 10, 100, 5000))]

    def _splice(self, frames: Frames) -> Frames:
        """Overwrite part of one frame with lengths, types or numbers of msgpack or JPEG."""
        index = self._random.randrange(len(frames))
        frame, at = frames[index], self._random.randrange(len(frames[index]) + 1)
        new = self._random.choice((b"\xff" * 9, b"\xcb\x7f\xf8" + bytes(6), b"\xdf\xff\xff\xff\xff", b"\x91" * 3000))
        return [*frames[:index], frame[:at] + new + frame[at + len(new) :], *frames[index + 1 :]]

    def _restructure(self, frames: Frames) -> Frames:
        """Mutate the structure of the JPEG, if there is one."""
        return [*frames[:-1], mutated_jpeg(frames[-1], self._random)] if len(frames) > 1 else frames

    _mutations: tuple[Callable[[Mutator, Frames], Frames], ...] = (
        _flip, _cut, _stretch, _shuffle, _multiply, _splice, _restructure, _restructure, _restructure,
    )  # fmt: skip


def mutated_jpeg(data: bytes, draws: random.Random) -> bytes:
    """Mutate the structure of a JPEG: sizes, segments, scans and what is between them; other data stays as it is."""
    segments = jpeg_segments(data)
    if len(segments) < 3:
        return data
    index = draws.randrange(1, len(segments))
    return draws.choice(_JPEG_MUTATIONS)(segments, index, draws)


def jpeg_segments(data: bytes) -> list[bytes]:
    """The start marker, each segment of a JPEG (a scan with its data) and the end marker, which together are `data`."""
    starts, at = [0], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        starts.append(at)
        if data[at + 1] == 0xDA:  # followed by data, up to the end of the file
            starts.append(max(at + 1, len(data) - 2))
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _resized(segments: Frames, index: int, draws: random.Random) -> bytes:
    """Another size in the frame header, up to that of a decompression bomb."""
    sides = draws.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x0b\xb8\x0b\xb8", b"\x20\0\x20\0", draws.randbytes(4)))
    return b"".join(
        segment[:5] + sides + segment[9:] if segment[:2] == b"\xff\xc0" else segment for segment in segments
    )


def _repeated(segments: Frames, index: int, draws: random.Random) -> bytes:
    """One segment again and again, as often as a message has room for."""
    times = min(draws.choice((2, 10, 500)), MAX_MESSAGE_BYTES // len(segments[index]))
    return b"".join([*segments[:index], *[segments[index]] * times, *segments[index + 1 :]])


def _rescanned(segments: Frames, index: int, draws: random.Random) -> bytes:
    """The header of one component's scan again and again, without data."""
    return b"".join([*segments[:-1], *[b"\xff\xda\0\x08\1\1\0\0\x3f\0"] * draws.choice((1, 100, 10_000)), segments[-1]])


def _dropped(segments: Frames, index: int, draws: random.Random) -> bytes:
    """One segment less."""
    return b"".join([*segments[:index], *segments[index + 1 :]])


def _swapped(segments: Frames, index: int, draws: random.Random) -> bytes:
    """Segments in another order."""
    return b"".join([segments[0], *draws.sample(segments[1:-1], len(segments) - 2), segments[-1]])


def _inserted(segments: Frames, index: int, draws: random.Random) -> bytes:
    """Fill bytes, foreign markers or a second frame header before one segment."""
    foreign = (
        b"\xff", b"\xff" * 100, b"\0", b"\xff\xd9", b"\xff\xd8", b"\xff\xdc\0\4\x36\xb0", b"\xff\x01", b"\xff\xd0",
        b"\xff\xc2\0\x11\x08\x36\xb0\x36\xb0\3\1\x11\0\2\x11\0\3\x11\0", b"\xff\xfe\xff\xff", b"\xff\xff\xc2",
    )  # fmt: skip
    return b"".join([*segments[:index], draws.choice(foreign), *segments[index:]])


def _rewritten(segments: Frames, index: int, draws: random.Random) -> bytes:
    """Other bytes in the header of one segment: its length, its counts, its components."""
    segment = bytearray(segments[index])
    for _ in range(draws.choice((1, 1, 3))):
        segment[draws.randrange(min(len(segment), 20))] = draws.choice((0, 1, 3, 4, 255, draws.randrange(256)))
    return b"".join([*segments[:index], bytes(segment), *segments[index + 1 :]])


_JPEG_MUTATIONS = (_resized, _repeated, _rescanned, _dropped, _swapped, _inserted, _rewritten)
