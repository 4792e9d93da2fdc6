"""Opening and decoding of video files; images upright, sizes in square pixels."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.stream import VideoStream

from vitmalis.errors import UserError
from vitmalis.types import RgbImage

MAX_PIXELS = 8192 * 4320
"""Largest frame that is decoded: 8K. A file of a few kilobytes can state a size that takes gigabytes to decode."""


def open_container(path: Path | str) -> InputContainer:
    """Open a media file. FFmpeg takes a relative name with a colon for an address, so it is given an absolute path.

    A playlist cannot name what is not a file: FFmpeg would fetch it from wherever the playlist says.
    """
    return av.open(str(Path(path).absolute()), options={"protocol_whitelist": "file"})


def video_stream(container: InputContainer, index: int | None = None) -> VideoStream:
    """The video stream with this index in the container, by default the first that is no cover image.

    Raises:
        UserError: there is none, as in an audio file.
    """
    if index is not None:
        return next(stream for stream in container.streams.video if stream.index == index)
    if streams := video_streams(container):
        return streams[0]
    held = sorted({"a cover image" if stream.type == "video" else stream.type for stream in container.streams})
    raise UserError(f"'{container.name}' has no video, only {' and '.join(held) or 'headers'}")


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that are no attached cover images."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def decode(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stream in display order.

    Raises:
        UserError: they are larger than `MAX_PIXELS`.
    """
    _prepare(container, stream)
    return container.decode(stream)


def decode_or_skip(
    container: InputContainer, stream: VideoStream, skip: Callable[[], bool]
) -> Iterator[av.VideoFrame | None]:
    """Yield the frames of a stream in display order, None in place of each that was skipped.

    While `skip` returns true, B-frames that no other is predicted from are not decoded. All others are the same as
    without skipping. Where packets are timed in the order of decoding, as in many AVI files, nothing is skipped.

    Raises:
        UserError: they are larger than `MAX_PIXELS`.
    """
    _prepare(container, stream)
    undecided: list[int] = []  # heap of the times of frames that the decoder may skip
    latest = -math.inf
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "DEFAULT"
        if packet.pts is not None:
            if packet.pts < latest and skip():  # a B-frame, which comes after one that is shown later
                stream.codec_context.skip_frame = "NONREF"
                heapq.heappush(undecided, packet.pts)
            latest = max(latest, packet.pts)
        for frame in packet.decode():
            while undecided and frame.pts is not None and undecided[0] <= frame.pts:
                if heapq.heappop(undecided) < frame.pts:
                    yield None
            yield frame
    yield from (None for _ in undecided)


def _prepare(container: InputContainer, stream: VideoStream) -> None:
    """Bound the size of frames, and use no frame threads.

    These would add latency, and change how many frames precede an error in a damaged file.
    """
    bound_size(container, stream)
    stream.thread_type = "SLICE"


def bound_size(container: InputContainer, stream: VideoStream) -> None:
    """Refuse frames of more than `MAX_PIXELS`, and have FFmpeg refuse those that the headers do not tell about.

    Raises:
        UserError: the headers state a larger size.
    """
    codec = stream.codec_context
    if codec.width * codec.height > MAX_PIXELS:
        raise UserError(
            f"'{container.name}' has frames of {codec.width}x{codec.height}, more than {MAX_PIXELS / 1e6:.0f} million "
            "pixels: make them smaller, for instance with ffmpeg -vf scale=1920:-2"
        )
    codec.options = {"max_pixels": str(MAX_PIXELS)}


def rgb_image(frame: av.VideoFrame) -> RgbImage:
    """Convert a decoded frame to RGB uint8 (H, W, 3), identical for any number of threads.

    It uses one thread, as on a busy machine waiting for a second one takes ten times longer than the conversion.
    """
    return np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)


def displayed_size(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(width, height) at which players show a frame: upright, with square pixels."""
    aspect = float(stream.sample_aspect_ratio or 1)  # width of a pixel / its height
    width, height = max(1, round(frame.width * aspect)), frame.height
    return (height, width) if _orientation(frame)[0] else (width, height)


def upright_image(frame: av.VideoFrame) -> RgbImage:
    """Convert a decoded frame to RGB uint8 (H, W, 3), turned as its display matrix says, in steps of 90 degrees."""
    image = rgb_image(frame)
    transposed, right_to_left, bottom_to_top = _orientation(frame)
    if transposed:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if bottom_to_top else 1, :: -1 if right_to_left else 1])


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How to show a frame: transpose it, then mirror it horizontally, then vertically.

    The display matrix (a b u; c d v; x y w) moves the pixel (x, y) to (a x + c y, b x + d y).
    """
    # PyAV's stubs give the container another type than it has.
    matrix = cast("Mapping[Type, bytes]", frame.side_data).get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    x, y = (c, b) if transposed else (a, d)
    return transposed, x < 0, y < 0
