"""Finding out what a video file holds: its video stream, rate, size, and how much of it decodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from vitmalis.errors import UserError
from vitmalis.video.decode import decode, displayed_size, open_container, video_stream, video_streams
from vitmalis.video.timing import FrameRate, frame_rate, slots

_HDR_CURVES = {16: "PQ", 18: "HLG"}
"""Transfer curves of HDR video, by their number in ITU-T H.273."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What the headers and packets of a video file say, and its first frame.

    Attributes:
        path: the file.
        stream: index of the video stream in the container.
        rate: its frame rate; unknown for files such as raw H.264, whose packets have no times.
        frames: number of frames.
        size: (width, height) as displayed: upright, in square pixels.
        notes: what a reader of results must know about the file.
    """

    path: Path
    stream: int
    rate: FrameRate
    frames: int
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


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
    if not path.is_file():
        raise UserError(f"'{path}' cannot be read as a video: there is no such file")
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
    """Packets of one stream: their number, and their presentation times in its time base."""

    count: int = 0
    times: list[int] = field(default_factory=list)


@lru_cache(maxsize=64)
def _probe(path: Path, _mtime_ns: int, _bytes: int) -> VideoFile:
    try:
        with open_container(path) as container:
            packets = _read_packets(container)
            stream, others = _chosen_stream(container, packets)
            found = packets.get(stream.index, _Packets())
            rate = _rate(found, stream, container.format.flags)
            index, stated = stream.index, stream.frames
            notes = _notes(stream, others)
        with open_container(path) as container:
            stream = video_stream(container, index)
            size = displayed_size(next(decode(container, stream)), stream)
    except av.FFmpegError as error:
        raise UserError(f"'{path}' cannot be read as a video ({error.strerror}): is it complete?") from error
    except StopIteration as error:
        raise UserError(f"'{path}' cannot be read as a video: no frame decodes") from error
    if found.count < 1:
        raise UserError(f"'{path}' has no frames: is it complete?")
    return VideoFile(path, index, rate, stated or found.count, size, notes)


def _rate(packets: _Packets, stream: VideoStream, format_flags: int) -> FrameRate:
    if format_flags & cast("int", Flags.no_timestamps.value):  # FFmpeg then states a rate of its own, 25
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
                if packet.pts is not None:
                    packets.times.append(packet.pts)
    except av.FFmpegError:  # a truncated file: decoding it will say where it ends
        if not found:
            raise
    return found


def _chosen_stream(container: InputContainer, packets: dict[int, _Packets]) -> tuple[VideoStream, int]:
    """The video stream that FFmpeg's players show, and the number of others that move.

    A stream of one frame next to one that moves is a cover image.
    """
    moving = [stream for stream in video_streams(container) if packets.get(stream.index, _Packets()).count > 1]
    best = container.streams.best("video")
    stream = next((stream for stream in moving if stream is best), moving[0] if moving else video_stream(container))
    return stream, len(moving) - 1


def _notes(stream: VideoStream, others: int) -> tuple[str, ...]:
    notes = []
    if others > 0:
        notes.append(f"stream {stream.index} is played, one of {others + 1} video streams of the file")
    if curve := _HDR_CURVES.get(stream.codec_context.color_trc):
        notes.append(f"its colours are HDR ({curve}) and are not mapped to an ordinary screen's")
    return tuple(notes)


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
