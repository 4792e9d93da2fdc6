"""What a camera plays, as plain data, and how it becomes images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.types import RgbImage

CAMERA_PREFIX = "camera:"


class VideoSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a video file, or a live source; plain data that a child process is given as JSON.

    Attributes:
        name: what to call it in records and plots.
        path: a video file; `camera:0` for a camera; or a GStreamer pipeline that ends in `appsink`.
        fps: strict rate of delivery, frames per second.
        start_frame: first frame inside the file.
        frames: how many.
        width, height: size delivered in pixels.
        live: a device that is not paced and cannot be played again.
        stand_in: empty for real footage, else a sentence on what stands in for what.
        note: anything else a reader of results must know, e.g. that the clip was shorter than asked.
    """

    name: str
    path: str
    fps: float
    start_frame: int
    frames: int
    width: int
    height: int
    live: bool = False
    stand_in: str = ""
    note: str = ""


OpenVideo = Callable[[VideoSpec], Iterator[RgbImage]]
"""Opens a source, as `open_video` does."""


def open_video(spec: VideoSpec) -> Iterator[RgbImage]:
    """Yield RGB uint8 (height, width, 3): the same bits at every call, `spec.frames` of them (no end when live).

    Raises:
        UserError: the source cannot be opened, or ends before it should.
    """
    return _open_live(spec) if spec.live else _open_file(spec)


def fit_size(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """Largest even (width, height) of the same aspect inside the limits; small pictures are enlarged."""
    scale = min(max_width / width, max_height / height)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2


def resize(image: RgbImage, width: int, height: int) -> RgbImage:
    """Area-averaged when it shrinks, cubic when it grows."""
    if image.shape[:2] == (height, width):
        return image
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def rgb_image(picture: av.VideoFrame) -> RgbImage:
    """A decoded frame as RGB uint8 (H, W, 3); the same bits for any number of threads.

    One thread: on a busy machine a conversion waits ten times longer for a second one than it takes.
    """
    return np.asarray(picture.to_ndarray(format="rgb24", threads=1), np.uint8)


def _open_file(spec: VideoSpec) -> Iterator[RgbImage]:
    if not Path(spec.path).is_file():
        raise UserError(f"video '{spec.name}': there is no file '{spec.path}'")
    try:
        with av.open(spec.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"  # one thread a frame costs latency and buys nothing at these sizes
            delivered = 0
            for index, picture in enumerate(container.decode(stream)):
                if delivered == spec.frames:
                    break
                # Counting from the first frame is exact for every file, also one whose rate varies; seeking is not.
                if index >= spec.start_frame:
                    yield resize(rgb_image(picture), spec.width, spec.height)
                    delivered += 1
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"video '{spec.name}': '{spec.path}' cannot be decoded ({error})") from error
    if delivered < spec.frames:
        raise UserError(
            f"video '{spec.name}': '{spec.path}' ends after {delivered} of {spec.frames} frames "
            f"from frame {spec.start_frame}: ask for fewer seconds or an earlier start"
        )


def _open_live(spec: VideoSpec) -> Iterator[RgbImage]:
    if spec.path.startswith(CAMERA_PREFIX):
        source = cv2.VideoCapture(int(spec.path.removeprefix(CAMERA_PREFIX)))
        hint = "is it connected, and is its index right?"
    else:
        source = cv2.VideoCapture(spec.path, cv2.CAP_GSTREAMER)
        hint = "does the pipeline end in 'appsink', and is this OpenCV built with GStreamer?"
    try:
        if not source.isOpened():
            raise UserError(f"video '{spec.name}': live source '{spec.path}' cannot be opened: {hint}")
        while True:
            ok, picture = source.read()
            if not ok:
                raise UserError(f"video '{spec.name}': live source '{spec.path}' stopped delivering frames")
            yield resize(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8), spec.width, spec.height)
    finally:
        source.release()
