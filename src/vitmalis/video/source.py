"""Videos of other packages: images from anywhere, rendered into a file once and played from it like any clip."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitmalis.errors import UserError
from vitmalis.extensions import ExtensionPoint
from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis.locks import file_lock
from vitmalis.names import check_path_part
from vitmalis.types import RgbImage
from vitmalis.video.encode import Progress, write_clip


class VideoSource(abc.ABC):
    """Images from a folder, a dataset or a simulator. A subclass needs the four of these that have no value here.

    Attributes:
        fps: frames per second.
        frames: number of images.
        size: (width, height) of every image in pixels, both even.
        stand_in: what the images stand for, if they are no footage; a run shows and tags it.
    """

    fps: float
    frames: int
    size: tuple[int, int]
    stand_in: str = ""

    @abc.abstractmethod
    def images(self) -> Iterator[RgbImage]:
        """Yield the images, RGB uint8 (height, width, 3), the same ones at every call."""

    def content(self) -> str:
        """What the images depend on besides the class and its options, such as a checksum of files; see `rendered`."""
        return ""


SOURCE: ExtensionPoint[VideoSource] = ExtensionPoint("video", "vitmalis.videos", VideoSource, {})
"""Where sources come from: entry points, and classes of other packages by their dotted names."""


def build_source(name: str, target: str, options: Mapping[str, Any]) -> VideoSource:
    """Build a source from the name of its class, an entry point or dotted, and its options.

    Raises:
        UserError: it cannot be found, does not take its options, or does not say what `VideoSource` asks for.
    """
    check_path_part("video.name", name)
    return check_source(f"video '{name}' ({target})", SOURCE.build(target, options))


def check_source(what: str, source: VideoSource) -> VideoSource:
    """Check what a source says of itself, and return it; raises `UserError`, which begins with `what`."""
    for attribute in ("fps", "frames", "size"):
        if not hasattr(source, attribute):
            raise UserError(f"{what} does not say its {attribute}: set it in the class or its constructor")
    if not (math.isfinite(source.fps) and source.fps > 0):
        raise UserError(f"{what}: fps is {source.fps}: it must be more than 0")
    if source.frames < 1:
        raise UserError(f"{what}: frames is {source.frames}: it must be 1 or more")
    if any(side < 1 or side % 2 for side in source.size):
        raise UserError(f"{what}: size is {tuple(source.size)}: width and height must be even")
    return source


def rendered(name: str, source: VideoSource, options: Mapping[str, Any], folder: Path, progress: Progress) -> Path:
    """The file with the images of a source; made on first use, and again when code, options or content change.

    Args:
        name: of the clip; the file's name begins with it.
        source: gives the images.
        options: it was built with.
        folder: of such files.
        progress: called after every image.

    Raises:
        UserError: an image is not what the source says, or there are fewer than it says.
    """
    facts = [dict(options), source.content(), source.fps, source.frames, list(source.size)]
    path = folder / f"{name}-{digest([code_fingerprint(type(source).__module__), *facts])[:16]}.mp4"
    with file_lock(path.with_suffix(".lock")):
        if not path.is_file():
            write_clip(path, _checked(name, source, progress), source.fps, source.size)
    return path


def _checked(name: str, source: VideoSource, progress: Progress) -> Iterator[RgbImage]:
    expected = (source.size[1], source.size[0], 3)
    count = 0
    for count, image in enumerate(source.images(), 1):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f"video '{name}': image {count - 1} is {found}: give uint8 {expected}, RGB")
        yield image
        progress(count, source.frames, f"rendering {name}")
        if count == source.frames:
            return
    raise UserError(f"video '{name}' ends after {count} images, and says frames={source.frames}: correct one of them")
