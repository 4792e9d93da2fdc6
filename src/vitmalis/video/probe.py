"""Finding out what a video file holds: its video stream, rate, size, and how much of it decodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vitmalis.errors import UserError
from vitmalis.video.decode import decode, displayed_size, open_container, video_stream, video_streams
from vitmalis.video.timing import FrameRate, frame_rate, slots


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What the headers and packets of a video file say, and its first frame.

    Attributes:
        path: the file.
        stream: index of the video stream in the container.
        rate: its frame rate; unknown for files such as raw H.264, whose packets have no times.
        frames: number of frames.
        size: (width, height) as displayed: upright, in square pixels.
    """

    path: Path
    stream: int
    rate: FrameRate
    frames: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Playable:
    """The part of a file that decodes.

    Attributes:
        frames: number of frames from the first one on, resampled ones if asked for.
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


def playable(file: VideoFile, limit: int, by_time: bool = False) -> Playable:
    """Decode up to `limit` frames of a file, so that damage is found before work is spent on the clip.

    With `by_time` they are frames of the file resampled to its `rate`.

    Raises:
        UserError: no frame can be decoded.
    """
    stat = file.path.stat()
    return _playable(file, limit, by_time, stat.st_mtime_ns, stat.st_size)


@dataclass(slots=True)
class _Packets:
    """Packets of one stream: their number, whether any has a time, and their presentation times in its time base."""

    count: int = 0
    timed: bool = False
    times: list[int] = field(default_factory=list)


@lru_cache(maxsize=64)
def _probe(path: Path, _mtime_ns: int, _bytes: int) -> VideoFile:
    try:
        with open_container(path) as container:
            packets = _read_packets(container)
            stream = _chosen_stream(container, packets)
            found = packets.get(stream.index, _Packets())
            rate = _rate(found, stream)
            index, stated = stream.index, stream.frames
        with open_container(path) as container:
            stream = video_stream(container, index)
            size = displayed_size(next(decode(container, stream)), stream)
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise UserError(f"'{path}' cannot be read as a video: {error or 'no frame decodes'}") from error
    if found.count < 1:
        raise UserError(f"'{path}' has no frames: is it complete?")
    return VideoFile(path, index, rate, stated or found.count, size)


def _rate(packets: _Packets, stream: VideoStream) -> FrameRate:
    if not packets.timed:  # FFmpeg then states a rate of its own, 25
        return FrameRate(None)
    stated_fps = float(stream.average_rate or stream.guessed_rate or 0) or None
    if len(packets.times) < packets.count or stream.time_base is None:
        return FrameRate(stated_fps)
    times_s = np.array(packets.times, np.float64) * float(stream.time_base)
    return frame_rate(times_s, stated_fps, float(stream.guessed_rate or 0))


def _read_packets(container: InputContainer) -> dict[int, _Packets]:
    """The packets of each video stream that will be shown, by the stream's index."""
    found: dict[int, _Packets] = {}
    try:
        for packet in container.demux(video=tuple(range(len(container.streams.video)))):
            if packet.size and not packet.is_discard:
                packets = found.setdefault(packet.stream.index, _Packets())
                packets.count += 1
                packets.timed |= packet.pts is not None or packet.dts is not None
                if packet.pts is not None:
                    packets.times.append(packet.pts)
    except av.FFmpegError:  # a truncated file: decoding it will say where it ends
        if not found:
            raise
    return found


def _chosen_stream(container: InputContainer, packets: dict[int, _Packets]) -> VideoStream:
    """The first video stream that moves; a stream of one frame next to it is a cover image."""
    moving = [stream for stream in video_streams(container) if packets.get(stream.index, _Packets()).count > 1]
    return moving[0] if moving else video_stream(container)


@lru_cache(maxsize=64)
def _playable(file: VideoFile, limit: int, by_time: bool, _mtime_ns: int, _bytes: int) -> Playable:
    count, error, stated = 0, "", file.rate.slots if by_time else file.frames
    try:
        with open_container(file.path) as container:
            frames = decode(container, video_stream(container, file.stream))
            indices = slots(frames, file.rate.fps) if by_time and file.rate.fps else enumerate(frames)
            for index, _ in indices:
                count = index + 1
                if count >= limit:
                    return Playable(max(limit, stated))
    except av.FFmpegError as caught:
        error = str(caught.strerror)
    if count == 0:
        raise UserError(
            f"'{file.path}' has no frame that can be decoded{f' ({error})' if error else ''}: is it complete?"
        )
    if error:
        return Playable(count, f"the file is damaged after frame {count - 1} ({error})")
    if count < stated and not by_time:
        return Playable(count, f"its header says {stated} frames, {count} decode")
    return Playable(count)
