"""Real footage to learn from: the profile part of each clip, scaled to 540 rows, with the teacher's labels.

The split is the manifest's, the one that evaluations play by: what follows the profile part is held out, it is only
ever judged by. A second on each side of `market1906`'s cut belongs to neither, as its frames are re-timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage
from vitmalis.video.clips import probe, resolve_clip
from vitmalis.video.manifest import clip_entry
from vitmalis.video.market1906 import COLUMNS, distinct_frames
from vitmalis.video.spec import rgb_image
from vitmalis_jobs.training.detection.labels import Targets, read_teacher, teacher_targets
from vitmalis_jobs.training.detection.temporal_voting import steady

HEIGHT_PX = 540
MARKET = "market1906"
MARKET_GUARD_S = 1


@dataclass(frozen=True)
class ClipFrame:
    """A prepared frame on disk.

    Attributes:
        path: JPEG of `HEIGHT_PX` rows.
        index: frame of the original file.
        targets: what the teacher says, in the prepared frame's pixels.
    """

    path: Path
    index: int
    targets: Targets

    def image(self) -> RgbImage:
        """Decode to RGB.

        Raises:
            UserError: the prepared frame is gone.
        """
        image = cv2.imread(str(self.path))
        if image is None:
            raise UserError(f"prepared frame '{self.path}' cannot be read: remove its folder to have it made again")
        return np.ascontiguousarray(image[..., ::-1])


@dataclass(frozen=True)
class ClipParts:
    """One clip's frames to learn from and its held-out frames; no frame is in both."""

    name: str
    train: list[ClipFrame]
    held_out: list[ClipFrame]


def split_frames(name: str, kept: list[int]) -> tuple[list[int], list[int]]:
    """Split the original indices of a clip's distinct frames into (to learn from, held out)."""
    entry = clip_entry(name)
    guard = round(MARKET_GUARD_S * entry.fps) if name == MARKET else 0
    return kept[: entry.profile_frames - guard], kept[entry.profile_frames + guard :]


def original_video(name: str, folder: Path, cache: Path) -> Path:
    """The file that the teacher's frame numbers count in; `market1906` is fetched if it has to be.

    Raises:
        UserError: it is missing or damaged.
    """
    clip = resolve_clip(name, part="profile", seconds=1.0, cache_dir=cache, folder=str(folder))
    return Path(clip.path).with_name(clip_entry(name).file)


def prepare_clip(name: str, video: Path, labels: Path, cache: Path) -> ClipParts:
    """Decode a clip once into `cache/<name>/` and pair its frames with the teacher's labels.

    Args:
        name: of the manifest.
        video: its original file.
        labels: the teacher's CSV.
        cache: folder for prepared frames.

    Raises:
        UserError: the video or the labels are missing or unreadable.
    """
    teacher = read_teacher(labels)
    folder = cache / name
    listing = folder / "frames.txt"
    if not listing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kept = _write_frames(name, video, folder)
        listing.write_text("\n".join(map(str, kept)))
    kept = [int(line) for line in listing.read_text().split()]
    market = name == MARKET
    offset_px = np.array([COLUMNS[0], 0] * 2 if market else [0] * 4, np.float32)
    scale = np.float32(HEIGHT_PX / probe(video)[2][1])

    def moved(index: int) -> Detections:
        raw = teacher.get(index, Detections.empty())
        return Detections((raw.boxes_xyxy - offset_px) * scale, raw.scores, raw.labels)

    def frames(part: list[int], found: list[Detections]) -> list[ClipFrame]:
        targets = [teacher_targets(detections, facades=market) for detections in found]
        return [ClipFrame(folder / f"{i:05d}.jpg", i, t) for i, t in zip(part, targets, strict=True)]

    train, held_out = split_frames(name, kept)
    # What is learned may be smoothed over time; what is judged by is the teacher's word as it is.
    return ClipParts(
        name, frames(train, steady([moved(i) for i in train])), frames(held_out, [moved(i) for i in held_out])
    )


def _decoded(name: str, video: Path) -> Iterator[tuple[int, RgbImage]]:
    """Distinct frames with their index in the file."""
    if name == MARKET:
        yield from ((index, image) for index, _, image in distinct_frames(video))
        return
    with av.open(str(video)) as container:
        for index, picture in enumerate(container.decode(container.streams.video[0])):
            yield index, rgb_image(picture)


def _write_frames(name: str, video: Path, folder: Path) -> list[int]:
    kept = []
    for index, image in _decoded(name, video):
        scale = HEIGHT_PX / image.shape[0]
        how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        resized = cv2.resize(image, (round(image.shape[1] * scale), HEIGHT_PX), interpolation=how)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), resized[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])
        kept.append(index)
    return kept
