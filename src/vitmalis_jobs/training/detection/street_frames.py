"""Street frames: labelled images of many places, split by scene into a training and a validation part.

The folder holds JPEGs of any size, `labels.csv` (`file,x1,y1,x2,y2,score,class`, in pixels of the JPEG),
`motorcycles_ignore.csv` (the same without a class; optional) and `sources.csv`, whose column `prefix` names the source
of each file: `<prefix>.jpg` is a single image, `<prefix>_<number>.jpg` a frame of a video.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitmalis.codec.jpeg import decode_jpeg
from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.errors import UserError
from vitmalis.types import COCO_CLASSES, Detections, RgbImage
from vitmalis.video.spec import fit_size, resize
from vitmalis_jobs.training.detection.config import StreetOptions
from vitmalis_jobs.training.detection.csv_rows import Row, read_rows
from vitmalis_jobs.training.detection.labels import Targets, detections_of, teacher_targets

log = logging.getLogger(__name__)

LABELS, MOTORCYCLES, SOURCES = "labels.csv", "motorcycles_ignore.csv", "sources.csv"
SIDES_PX = (16, 8192)
"""Shortest and longest side of an image."""
EDGE_PX = 2
"""How far a box may reach beyond its image, where it is clipped."""
MOTORCYCLE = COCO_CLASSES.index("motorcycle")


@dataclass(frozen=True)
class StreetFrame:
    """An image on disk with its targets.

    Attributes:
        path: JPEG of any size.
        scene: what it shows; frames of one scene are in one part of the split.
        size: width and height of `image()`, pixels.
        targets: in pixels of `image()`.
    """

    path: Path
    scene: str
    size: tuple[int, int]
    targets: Targets

    def image(self) -> RgbImage:
        """Read the image as RGB, resized to `size` as a camera's frames are.

        Raises:
            UserError: the file is gone or damaged.
        """
        try:
            return resize(decode_jpeg(self.path.read_bytes(), SIDES_PX[1] ** 2), *self.size)
        except (OSError, ValueError) as error:
            raise UserError(f"street frame '{self.path}' cannot be read ({error})") from error


@dataclass(frozen=True)
class StreetFrames:
    """The training frames and the validation frames; no scene is in both."""

    train: list[StreetFrame]
    validation: list[StreetFrame]


def read_street(options: StreetOptions, frame_size: tuple[int, int]) -> StreetFrames:
    """Read the street frames' labels; no frames where the folder is absent, which is logged, or their share is 0.

    Args:
        options: where they are, and how they are split.
        frame_size: largest width and height of a frame, pixels; each frame is enlarged or shrunk to fit.

    Raises:
        UserError: a table or an image is missing or damaged.
    """
    folder = Path(options.folder)
    if options.share == 0:
        return StreetFrames([], [])
    if not folder.is_dir():
        log.warning(
            "there are no street frames: '%s' is no folder; training and validation do without them. "
            "python -m training.fetch_street makes the frames (docs/model_card.md); street.share=0 leaves them out",
            folder,
        )
        return StreetFrames([], [])
    frames = _read_frames(folder, options.one_scene, frame_size)
    validation = {scene for scene in {f.scene for f in frames} if is_validated(scene, options)}
    street = StreetFrames(
        [frame for frame in frames if frame.scene not in validation],
        [frame for frame in frames if frame.scene in validation],
    )
    for part, kept in (("training", street.train), ("validation", street.validation)):
        log.info("street frames for %s: %d of %d scenes", part, len(kept), len({frame.scene for frame in kept}))
    return street


def is_validated(scene: str, options: StreetOptions) -> bool:
    """Whether a scene is for validation: decided by its name alone, so that it stays there when others are added."""
    drawn = hashlib.sha256(f"{options.split_seed}:{scene}".encode()).digest()
    return int.from_bytes(drawn[:6], "big") / 2**48 < options.validation_share


def scene_of(file: str, prefixes: Collection[str], one_scene: Sequence[str]) -> str | None:
    """The scene of a file, or None if it has no source.

    It is the prefix of its source, or that of `one_scene` which the prefix begins with: sources that show one place.
    """
    stem = file.removesuffix(".jpg")
    prefix = stem if stem in prefixes else re.sub(r"_[0-9]+$", "", stem)
    if prefix not in prefixes:
        return None
    return next((beginning for beginning in one_scene if prefix.startswith(beginning)), prefix)


def read_labelled_folder(folder: Path, frame_size: tuple[int, int]) -> list[StreetFrame]:
    """Read the frames of a folder that nothing trains on, which needs no sources: each is a scene of its own.

    Raises:
        UserError: there is no such folder, or a table or an image is missing or damaged.
    """
    if not folder.is_dir():
        raise UserError(f"held_out.folders: there is no folder '{folder}'")
    return _labelled_frames(folder, frame_size, lambda file: file)


def _read_frames(folder: Path, one_scene: Sequence[str], frame_size: tuple[int, int]) -> list[StreetFrame]:
    """Read every frame of a folder with sources, in the order of the files' names."""
    prefixes = {row.values["prefix"] for row in _rows(folder / SOURCES, ("prefix",))}

    def scene(file: str) -> str:
        found = scene_of(file, prefixes, one_scene)
        if found is None:
            raise UserError(f"street.folder={folder}: '{file}' has no source: {SOURCES} has no prefix for it")
        return found

    return _labelled_frames(folder, frame_size, scene)


def _labelled_frames(folder: Path, frame_size: tuple[int, int], scene: Callable[[str], str]) -> list[StreetFrame]:
    """Read every frame of a folder, in the order of the files' names; `scene` names that of a file."""
    sizes = {path.name: _image_size(path) for path in sorted(folder.glob("*.jpg"))}
    if not sizes:
        raise UserError(f"folder '{folder}' of labelled frames holds no .jpg")
    labels = _read_labels(folder, sizes)
    frames = []
    for file, size in sizes.items():
        fitted = fit_size(*size, *frame_size)
        targets = teacher_targets(_scaled(labels[file], size, fitted))
        frames.append(StreetFrame(folder / file, scene(file), fitted, targets))
    return frames


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height of a JPEG, which is not decoded."""
    try:
        size = jpeg_size(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"street frame '{path}' cannot be read ({error})") from error
    if not SIDES_PX[0] <= min(size) <= max(size) <= SIDES_PX[1]:
        raise UserError(
            f"street frame '{path}' has {size[0]}x{size[1]} pixels, expected {SIDES_PX[0]} to {SIDES_PX[1]}"
        )
    return size


def _read_labels(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Detections]:
    """Boxes of every file; a file without a row has none."""
    columns = ("file", "x1", "y1", "x2", "y2", "score")
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for row in _rows(folder / LABELS, (*columns, "class")):
        rows[row.values["file"]].append([*_scored_box(row, sizes), row.coco_class("class")])
    if (folder / MOTORCYCLES).exists():
        for row in _rows(folder / MOTORCYCLES, columns):
            rows[row.values["file"]].append([*_scored_box(row, sizes), MOTORCYCLE])
    return {file: detections_of(rows[file]) for file in sizes}


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    if not path.is_file():
        raise UserError(
            f"street table '{path}' is missing (its format: docs/model_card.md); street.share=0 or held_out.folders=[] "
            "leaves its folder out"
        )
    return list(read_rows(path, "street table", columns))


def _scored_box(row: Row, sizes: Mapping[str, tuple[int, int]]) -> list[float]:
    """Read the box of a row and its score."""
    if row.values["file"] not in sizes:
        raise row.mistake("file", "the name of a .jpg next to the table")
    width, height = sizes[row.values["file"]]
    return [*row.box(-EDGE_PX, width + EDGE_PX, height + EDGE_PX), row.real("score", 0, 1)]


def _scaled(found: Detections, size: tuple[int, int], fitted: tuple[int, int]) -> Detections:
    """Boxes in pixels of an image of one size, clipped to it, in pixels of the same image of another size."""
    limits, scale = (np.array(pair * 2, np.float32) for pair in (size, (fitted[0] / size[0], fitted[1] / size[1])))
    return found.at(np.clip(found.boxes_xyxy, 0, limits) * scale)
