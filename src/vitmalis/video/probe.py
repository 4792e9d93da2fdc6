"""Finding out what a video file holds: its video stream, rate, size, and how much of it decodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vitmalis.errors import UserError
from vitmalis.video.decode import decode, displayed_size, open_container, video_stream, video_streams


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What the headers and packets of a video file say, and its first frame.

    Attributes:
        path: the file.
        stream: index of the video stream in the container.
        fps: frames per second; None if the file does not say it (such as raw H.264, whose packets have no times).
        frames: number of frames.
        size: (width, height) as displayed: upright, in square pixels.
    """

    path: Path
    stream: int
    fps: float | None
    frames: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Playable:
    """The part of a file that decodes.

    Attributes:
        frames: number of frames from the first one on.
        reason: why there are fewer than the file states; empty if it decodes as far as asked.
    """

    frames: int
    reason: str = ""


def probe(path: Path) -> VideoFile:
    """Read the headers and packets of a video file.

    Raises:
        UserError: it cannot be read as a video.
    """
    stat = path.stat()
    return _probe(path.absolute(), stat.st_mtime_ns, stat.st_size)


def playable(file: VideoFile, limit: int) -> Playable:
    """Decode up to `limit` frames of a file, so that damage is found before work is spent on the clip.

    Raises:
        UserError: no frame can be decoded.
    """
    stat = file.path.stat()
    return _playable(file, limit, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _probe(path: Path, _mtime_ns: int, _bytes: int) -> VideoFile:
    try:
        with open_container(path) as container:
            packets = _count_packets(container)
            stream = _chosen_stream(container, packets)
            count, timed = packets.get(stream.index, (0, False))
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            index, stated = stream.index, stream.frames
        with open_container(path) as container:
            stream = video_stream(container, index)
            size = displayed_size(next(decode(container, stream)), stream)
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise UserError(f"'{path}' cannot be read as a video: {error or 'no frame decodes'}") from error
    if count < 1:
        raise UserError(f"'{path}' has no frames: is it complete?")
    # Without times in the packets FFmpeg states a rate of its own, 25.
    return VideoFile(path, index, rate if timed and rate > 0 else None, stated or count, size)


def _count_packets(container: InputContainer) -> dict[int, tuple[int, bool]]:
    """For each video stream's index, the number of packets that will be shown, and whether they have times."""
    found: dict[int, tuple[int, bool]] = {}
    try:
        for packet in container.demux(video=tuple(range(len(container.streams.video)))):
            if packet.size and not packet.is_discard:
                count, timed = found.get(packet.stream.index, (0, False))
                found[packet.stream.index] = count + 1, timed or packet.pts is not None or packet.dts is not None
    except av.FFmpegError:  # a truncated file: decoding it will say where it ends
        if not found:
            raise
    return found


def _chosen_stream(container: InputContainer, packets: dict[int, tuple[int, bool]]) -> VideoStream:
    """The first video stream that moves; a stream of one frame next to it is a cover image."""
    moving = [stream for stream in video_streams(container) if packets.get(stream.index, (0, False))[0] > 1]
    return moving[0] if moving else video_stream(container)


@lru_cache(maxsize=64)
def _playable(file: VideoFile, limit: int, _mtime_ns: int, _bytes: int) -> Playable:
    count, error = 0, ""
    try:
        with open_container(file.path) as container:
            for count, _ in enumerate(decode(container, video_stream(container, file.stream)), start=1):
                if count == limit:
                    return Playable(max(limit, file.frames))
    except av.FFmpegError as caught:
        error = str(caught.strerror)
    if count == 0:
        raise UserError(
            f"'{file.path}' has no frame that can be decoded{f' ({error})' if error else ''}: is it complete?"
        )
    if error:
        return Playable(count, f"the file is damaged after frame {count - 1} ({error})")
    return Playable(count, f"its header says {file.frames} frames, {count} decode" if count < file.frames else "")
