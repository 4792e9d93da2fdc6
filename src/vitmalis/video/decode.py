"""Opening and decoding of video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream


def open_container(path: Path | str) -> InputContainer:
    """Open a media file. FFmpeg takes a relative name with a colon for an address, so it is given an absolute path."""
    return av.open(str(Path(path).absolute()))


def video_stream(container: InputContainer, index: int | None = None) -> VideoStream:
    """The video stream with this index in the container, by default the first that is no cover image.

    Raises:
        IndexError: there is none.
    """
    streams = container.streams.video
    if index is not None:
        return next(stream for stream in streams if stream.index == index)
    return (video_streams(container) or streams)[0]


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that are no attached cover images."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def decode(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stream in display order.

    Frame threads are not used: they would add latency, and change how many frames precede an error in a damaged file.
    """
    stream.thread_type = "SLICE"
    return container.decode(stream)
