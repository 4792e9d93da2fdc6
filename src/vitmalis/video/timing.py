"""Frame times of video files: whether their rate is constant, and resampling to a constant rate if it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

MAX_RESAMPLED_FPS = 120.0
_MIN_FRAMES = 10
"""Fewer frames say too little about a rate to contradict the file's header."""


@dataclass(frozen=True, slots=True)
class FrameRate:
    """Rate at which a file's frames are played.

    Attributes:
        fps: frames per second; None if the file does not say it.
        varies: whether the times between frames vary, so that the file is resampled to `fps`.
        slots: length of the resampled file in frames, if it is.
    """

    fps: float | None
    varies: bool = False
    slots: int = 0


def frame_rate(times_s: np.ndarray, stated_fps: float | None, nominal_fps: float) -> FrameRate:
    """Tell a constant from a variable rate by the times at which frames are shown, in s, in any order.

    The rate is constant if no frame is more than one interval away from its place on an even grid. A variable rate
    becomes the container's nominal rate if that loses no frame, else the average rate of the parts that move.
    """
    times_s = np.sort(times_s)
    gaps_s = np.diff(times_s)
    if len(gaps_s) < 2 or gaps_s.min() <= 0:
        return FrameRate(stated_fps)
    even_fps = len(gaps_s) / float(times_s[-1] - times_s[0])
    grid = np.arange(len(times_s))
    if np.abs((times_s - times_s[0]) * even_fps - grid).max() <= 1:
        tolerance = 0.01 + 1 / len(grid)
        stated = stated_fps is not None and abs(even_fps / stated_fps - 1) <= tolerance
        return FrameRate(stated_fps if stated or len(grid) < _MIN_FRAMES else even_fps)
    moving_fps = 1 / float(gaps_s[gaps_s <= 2 * np.median(gaps_s)].mean())
    nominal = 0.95 * moving_fps <= nominal_fps <= 1.05 / float(gaps_s.min())
    fps = min(nominal_fps if nominal else moving_fps, MAX_RESAMPLED_FPS)
    return FrameRate(fps, varies=True, slots=slot(float(times_s[-1] - times_s[0]), fps) + 1)


def slot(time_s: float, fps: float) -> int:
    """Index of the frame at a constant rate that is nearest to a time."""
    return int(np.floor(time_s * fps + 0.5))


def slots(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield each frame with its index at a constant rate, counted from the first frame's time; it never decreases."""
    first_s, index = None, 0
    for frame in frames:
        if frame.time is not None:
            first_s = frame.time if first_s is None else first_s
            index = max(index, slot(frame.time - first_s, fps))
        yield index, frame


def resample(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[av.VideoFrame]:
    """Yield frames at a constant rate: each is repeated until the next, and the last of those that coincide is taken.

    Raises:
        av.FFmpegError: decoding failed; all frames before it have been yielded.
    """
    shown: av.VideoFrame | None = None
    since = 0
    try:
        for index, frame in slots(frames, fps):
            if shown is not None:
                for _ in range(since, index):
                    yield shown
            shown, since = frame, index
    except av.FFmpegError:
        if shown is not None:
            yield shown
        raise
    if shown is not None:
        yield shown
