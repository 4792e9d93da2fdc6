"""Frames of published images and videos as JPEGs of at most 960 px."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.types import RgbImage
from vitmalis.video.decode import decode, open_container, upright_image, video_stream
from vitmalis.video.spec import resize
from vitmalis_jobs.training.street.sources import StreetSource

LONGEST_SIDE_PX = 960
"""Images with a longer side are shrunk to it."""
QUALITY = 90
IMAGES = (".jpeg", ".jpg", ".png")
"""Suffixes of images; all other files are videos."""


def write_frames(source: StreetSource, original: Path, folder: Path) -> int:
    """Write the frames of a source into a folder; return their number.

    Raises:
        UserError: the original cannot be decoded, or has fewer frames.
    """
    written = 0
    try:
        for name, image in _frames(source, original):
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(encode_jpeg(shrunk(image), QUALITY))
            written += 1
    except av.FFmpegError as error:
        raise UserError(f"'{original}' cannot be decoded ({error.strerror})") from error
    expected = max(1, len(source.numbers))
    if written < expected:
        raise UserError(f"'{original}' has {written} of the {expected} frames that are taken of it")
    return written


def shrunk(image: RgbImage) -> RgbImage:
    """Shrink an image to `LONGEST_SIDE_PX`; a smaller one stays as it is."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE_PX / max(height, width))
    return resize(image, max(1, round(width * scale)), max(1, round(height * scale)))


def _frames(source: StreetSource, original: Path) -> Iterator[tuple[str, RgbImage]]:
    """The wanted frames of a file, upright, with their names."""
    if original.suffix.lower() in IMAGES:
        image = cv2.imdecode(np.fromfile(original, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"'{original}' cannot be decoded")
        yield source.frame_name(source.numbers[0] if source.numbers else None), np.asarray(image, np.uint8)
        return
    with open_container(original) as container:
        frames = itertools.islice(decode(container, video_stream(container)), max(source.numbers) + 1)
        for number, frame in enumerate(frames):
            if number in source.numbers:
                yield source.frame_name(number), upright_image(frame)
