"""The clip of a run as a small video for browsers: the played frames without anything drawn on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage

_OPTIONS = {
    "crf": "26",
    "preset": "veryfast",
    "g": "8",  # frames between keyframes: a seek decodes at most as many
    "bf": "0",  # with frames stored in their order, frame k is shown at exactly k / fps
}


def write_clip_video(path: Path, images: Iterable[RgbImage], fps: float) -> bool:
    """Write images, RGB uint8 (H, W, 3) with even sides, as H.264 in which every frame is quick to seek.

    Returns:
        Whether there were any; without images there is no file.
    """
    images = iter(images)
    first = next(images, None)
    if first is None:
        return False
    rate = Fraction(fps).limit_denominator(1001)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"movflags": "+faststart"}) as out:
        stream = _stream(out, rate, first)
        for number, image in enumerate(itertools.chain([first], images)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return True


def _stream(out: av.container.OutputContainer, rate: Fraction, image: RgbImage) -> VideoStream:
    stream = out.add_stream("libx264", rate=rate)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.options = dict(_OPTIONS)
    stream.thread_count = 1
    return stream
