"""Frames of a video that training reads many times: decoded once, scaled to 540 rows and kept as JPEGs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2

from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis.paths import atomic_path, file_sha256
from vitmalis.types import RgbImage
from vitmalis.video.decode import rgb_image
from vitmalis.video.market1906 import distinct_frames

HEIGHT_PX = 540
MARKET = "market1906"


@dataclass(frozen=True)
class PreparedFrames:
    """Folder of a video's prepared frames.

    Attributes:
        folder: one JPEG of `HEIGHT_PX` rows for each frame.
        indices: the frames' numbers in the video file.
    """

    folder: Path
    indices: list[int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, pixels."""
        return jpeg_size(self.path(self.indices[0]).read_bytes())

    def path(self, index: int) -> Path:
        """The JPEG of one frame."""
        return _jpeg(self.folder, index)


def prepare_frames(name: str, video: Path, cache: Path) -> PreparedFrames:
    """Decode a video into a folder of `cache`, unless the same code has done so with the same content before.

    Args:
        name: clip of the manifest; repeated frames of `market1906` are left out.
        video: its original file.
        cache: folder for the frames of all videos.

    Raises:
        OSError: the video cannot be read.
    """
    folder = cache / f"{name}-{digest([code_fingerprint(__name__), file_sha256(video), name])[:16]}"
    listing = folder / "frames.txt"  # written last: without it the frames are not complete
    if not listing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        indices = _write_frames(name, video, folder)
        with atomic_path(listing) as temporary:
            temporary.write_text("\n".join(map(str, indices)))
    return PreparedFrames(folder, [int(line) for line in listing.read_text().split()])


def _write_frames(name: str, video: Path, folder: Path) -> list[int]:
    """Write a video's distinct frames as JPEGs of `HEIGHT_PX` rows; returns their indices in the file."""
    indices = []
    for index, image in _decoded(name, video):
        scale = HEIGHT_PX / image.shape[0]
        how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        resized = cv2.resize(image, (round(image.shape[1] * scale), HEIGHT_PX), interpolation=how)
        cv2.imwrite(str(_jpeg(folder, index)), resized[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])
        indices.append(index)
    return indices


def _decoded(name: str, video: Path) -> Iterator[tuple[int, RgbImage]]:
    """Distinct frames of a video file with their index in it."""
    if name == MARKET:
        yield from ((index, image) for index, _, image in distinct_frames(video))
        return
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(container.streams.video[0])):
            yield index, rgb_image(frame)


def _jpeg(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.jpg"
