"""Real clips with a teacher's labels, scaled to 540 rows and split into a training and a validation part.

The split is that of the manifest, which evaluations use too: the profile part is for training, the eval part for
validation. A second on each side of `market1906`'s cut belongs to neither, as its frames are re-timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage
from vitmalis.video.clips import resolve_clip
from vitmalis.video.manifest import clip_entry
from vitmalis.video.market1906 import COLUMNS
from vitmalis.video.probe import probe
from vitmalis_jobs.training.detection.labels import Targets, read_teacher, teacher_targets
from vitmalis_jobs.training.detection.prepared_frames import HEIGHT_PX, MARKET, prepare_frames
from vitmalis_jobs.training.detection.temporal_voting import vote_over_time

MARKET_GUARD_S = 1
"""Length on each side of `market1906`'s cut that belongs to neither part, s."""


@dataclass(frozen=True)
class LabelledFrame:
    """A prepared frame on disk with its targets.

    Attributes:
        path: JPEG.
        index: frame of the original video or of the rendered scene.
        size: width and height, pixels.
        targets: in pixels of the prepared frame.
    """

    path: Path
    index: int
    size: tuple[int, int]
    targets: Targets

    def image(self) -> RgbImage:
        """Read the frame as RGB.

        Raises:
            UserError: the prepared frame is gone.
        """
        image = cv2.imread(str(self.path))
        if image is None:
            raise UserError(f"prepared frame '{self.path}' cannot be read: remove its folder to have it made again")
        return np.ascontiguousarray(image[..., ::-1])


@dataclass(frozen=True)
class LabelledClip:
    """A clip's training frames and its validation frames; no frame is in both."""

    name: str
    train: list[LabelledFrame]
    validation: list[LabelledFrame]


def split_frames(name: str, kept: list[int]) -> tuple[list[int], list[int]]:
    """Split the original indices of a clip's distinct frames into (training, validation)."""
    entry = clip_entry(name)
    guard = round(MARKET_GUARD_S * entry.fps) if name == MARKET else 0
    return kept[: entry.profile_frames - guard], kept[entry.profile_frames + guard :]


def original_video(name: str, folder: Path, cache: Path) -> Path:
    """The file whose frames the teacher's labels number; `market1906` is fetched if it is not there.

    Raises:
        UserError: the file is missing or damaged.
    """
    clip = resolve_clip(name, part="profile", seconds=1.0, cache_dir=cache, folder=str(folder))
    return Path(clip.path).with_name(clip_entry(name).file)


def prepare_clip(name: str, video: Path, labels: Path, cache: Path) -> LabelledClip:
    """Prepare a clip's frames and pair them with the teacher's labels.

    Args:
        name: of the manifest.
        video: its original file.
        labels: the teacher's CSV.
        cache: folder for prepared frames.

    Raises:
        UserError: the video or the labels are missing or unreadable.
    """
    teacher = read_teacher(labels)
    scale = np.float32(HEIGHT_PX / probe(video).size[1])
    prepared = prepare_frames(name, video, cache)
    market = name == MARKET
    offset_px = np.array([COLUMNS[0], 0] * 2 if market else [0] * 4, np.float32)

    def scaled(index: int) -> Detections:
        raw = teacher.get(index, Detections.empty())
        return raw.at((raw.boxes_xyxy - offset_px) * scale)

    def frames(part: list[int], found: list[Detections]) -> list[LabelledFrame]:
        targets = [teacher_targets(detections, facades=market) for detections in found]
        return [LabelledFrame(prepared.path(i), i, prepared.size, t) for i, t in zip(part, targets, strict=True)]

    train, validation = split_frames(name, prepared.indices)
    # Only training labels are corrected over time: scores are taken against the teacher's labels as they are.
    return LabelledClip(
        name,
        frames(train, vote_over_time([scaled(i) for i in train])),
        frames(validation, [scaled(i) for i in validation]),
    )
