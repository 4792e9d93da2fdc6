"""Real footage to learn from: the first two thirds of each clip, scaled to 540 rows, with the teacher's labels.

The last third is held out: it is only ever evaluated on. `market1906` is split as the evaluation splits it: repeated
frames dropped, 16 a second, the first 40 s to learn from; a second on each side of the cut belongs to neither part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from training.detection.labels import Targets, read_teacher, teacher_targets
from training.detection.steady import steady
from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage

HEIGHT_PX = 540
MARKET_BARS_PX = (50, 590)
MARKET_REPEAT_DIFFERENCE = 0.6
MARKET_FPS = 16
MARKET_PROFILE_S = 40
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
    if name == "market1906":
        cut, guard = MARKET_PROFILE_S * MARKET_FPS, MARKET_GUARD_S * MARKET_FPS
        return kept[: cut - guard], kept[cut + guard :]
    cut = 2 * len(kept) // 3
    return kept[:cut], kept[cut:]


def prepare_clip(name: str, video: Path, labels: Path, cache: Path) -> ClipParts:
    """Decode a clip once into `cache/<name>/` and pair its frames with the teacher's labels.

    Raises:
        UserError: the video or the labels are missing or unreadable.
    """
    market = name == "market1906"
    teacher = read_teacher(labels)
    folder = cache / name
    listing = folder / "frames.txt"
    if not listing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kept = _write_frames(video, folder, market)
        listing.write_text("\n".join(map(str, kept)))
    kept = [int(line) for line in listing.read_text().split()]
    offset_x_px, scale = _geometry(video, market)

    def moved(index: int) -> Detections:
        raw = teacher.get(index, Detections.empty())
        boxes = (raw.boxes_xyxy - np.array([offset_x_px, 0, offset_x_px, 0], np.float32)) * np.float32(scale)
        return Detections(boxes, raw.scores, raw.labels)

    def frames(part: list[int], labels: list[Detections]) -> list[ClipFrame]:
        return [
            ClipFrame(folder / f"{index:05d}.jpg", index, teacher_targets(found, facades=market))
            for index, found in zip(part, labels, strict=True)
        ]

    train, held_out = split_frames(name, kept)
    # What is learned may be smoothed over time; what is judged by is the teacher's word as it is.
    return ClipParts(
        name, frames(train, steady([moved(i) for i in train])), frames(held_out, [moved(i) for i in held_out])
    )


def _geometry(video: Path, market: bool) -> tuple[int, float]:
    capture = _open(video)
    height_px = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return (MARKET_BARS_PX[0] if market else 0), HEIGHT_PX / height_px


def _open(video: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        raise UserError(f"training clip '{video}' cannot be opened: see clips.folder and clips.market1906")
    return capture


def _decoded(video: Path, market: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Distinct frames (BGR) with their index in the file."""
    capture, index = _open(video), 0
    previous: np.ndarray | None = None
    while True:
        more, image = capture.read()
        if not more:
            return
        if market:
            image = image[:, slice(*MARKET_BARS_PX)]
            small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (160, 90), interpolation=cv2.INTER_AREA)
            grey = small.astype(np.float32)
            new = previous is None or float(np.abs(grey - previous).mean()) >= MARKET_REPEAT_DIFFERENCE
            previous = grey
        if not market or new:
            yield index, image
        index += 1


def _write_frames(video: Path, folder: Path, market: bool) -> list[int]:
    kept = []
    for index, image in _decoded(video, market):
        scale = HEIGHT_PX / image.shape[0]
        how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        resized = cv2.resize(image, (round(image.shape[1] * scale), HEIGHT_PX), interpolation=how)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), resized, [cv2.IMWRITE_JPEG_QUALITY, 97])
        kept.append(index)
    return kept
