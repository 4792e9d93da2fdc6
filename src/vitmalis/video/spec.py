"""Video specifications: what a camera plays, as plain data, and how its images are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import av
import cv2
import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.paths import file_sha256
from vitmalis.types import RgbImage
from vitmalis.video.decode import decode, decode_or_skip, open_container, upright_image, video_stream
from vitmalis.video.live import live_images
from vitmalis.video.timing import resample

MAX_SIDE_PX = 8192
"""Longest side of a delivered frame; the messages admit no more."""


class VideoSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a video file, or a live source; plain data that is passed to child processes as JSON.

    Attributes:
        name: name in records and plots.
        path: a video file, or a live source, see `live_images`.
        fps: strict rate of delivery, frames per second.
        start_frame: first frame inside the file.
        frames: number of frames.
        width, height: delivered size in pixels.
        live: whether it is a device, which is not paced and cannot be played again.
        stand_in: empty for real footage, else a sentence that says which video this one replaces.
        note: anything else that a reader of the results must know, e.g. that the clip was shorter than requested.
        stream: index of the video stream in the file; None for the first that is no cover image.
        by_time: whether the file's frame rate varies; `start_frame` and `frames` then count frames resampled to `fps`.
    """

    name: str
    path: str
    fps: Annotated[float, msgspec.Meta(gt=0)]
    start_frame: Annotated[int, msgspec.Meta(ge=0)]
    frames: Annotated[int, msgspec.Meta(ge=0)]
    width: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE_PX)]
    height: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE_PX)]
    live: bool = False
    stand_in: str = ""
    note: str = ""
    stream: int | None = None
    by_time: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


def content_digest(spec: VideoSpec) -> str:
    """Digest of what decides the image of each frame number: the file's bytes and the rate to which it is resampled."""
    content = file_sha256(Path(spec.path))
    return f"{content}@{spec.fps!r}" if spec.by_time else content


OpenVideo = Callable[[VideoSpec], Iterator[RgbImage]]
"""Type of `open_video`."""


def open_video(spec: VideoSpec) -> Iterator[RgbImage]:
    """Yield the images of a video, RGB uint8 (height, width, 3): identical at every call, or endless ones if live.

    Raises:
        UserError: the source cannot be opened, or ends before `spec.frames` images.
    """
    return (image for image in open_in_time(spec, lambda _: False) if image is not None)


Overdue = Callable[[int], bool]
"""Says whether it is too late for the image with this number."""


def open_in_time(spec: VideoSpec, overdue: Overdue) -> Iterator[RgbImage | None]:
    """Yield the images of a video as `open_video` does, but None in place of those of a file that are overdue.

    These take less time: they are not converted, and while one is overdue, those after it are decoded only as far as
    others are predicted from them.

    Raises:
        UserError: as of `open_video`.
    """
    return _open_live(spec) if spec.live else _open_file(spec, overdue)


def fit_size(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """Largest even (width, height) of the same aspect ratio within the limits; smaller sizes are enlarged."""
    scale = min(max_width / width, max_height / height)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2


def resize(image: RgbImage, width: int, height: int) -> RgbImage:
    """Resize an image, by area averaging to shrink it and by cubic interpolation to enlarge it."""
    if image.shape[:2] == (height, width):
        return image
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _open_file(spec: VideoSpec, overdue: Overdue) -> Iterator[RgbImage | None]:
    if not Path(spec.path).is_file():
        raise UserError(f"video '{spec.name}': there is no file '{spec.path}'")
    delivered = 0
    try:
        with open_container(spec.path) as container:
            stream = video_stream(container, spec.stream)
            frames: Iterator[av.VideoFrame | None]
            if spec.by_time:
                frames = resample(decode(container, stream), spec.fps)
            else:
                frames = decode_or_skip(container, stream, lambda: overdue(delivered))
            # Counting from the first frame is exact even if the rate varies; seeking is not.
            # What follows the last frame is not decoded: it may be damaged.
            for frame in itertools.islice(frames, spec.start_frame, spec.start_frame + spec.frames):
                if frame is None or overdue(delivered):
                    yield None
                else:
                    yield resize(upright_image(frame), spec.width, spec.height)
                delivered += 1
    except av.FFmpegError as error:
        raise UserError(f"video '{spec.name}': '{spec.path}' cannot be decoded ({error.strerror})") from error
    if delivered < spec.frames:
        raise UserError(
            f"video '{spec.name}': '{spec.path}' ends after {delivered} of {spec.frames} frames "
            f"from frame {spec.start_frame}: ask for fewer seconds or an earlier start"
        )


def _open_live(spec: VideoSpec) -> Iterator[RgbImage]:
    for image in live_images(spec.path):
        yield resize(image, spec.width, spec.height)
