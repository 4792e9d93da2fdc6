"""Scenes of the renderer, written to a folder: frames as JPEGs, maps of their objects as PNGs, a table of targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import msgspec

from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import damage_reported, decode_json
from vitmalis.video.standin import SceneFrame, StreetScene
from vitmalis_jobs.training.detection.labels import MIN_SIDE_PX, Targets, rendered_targets, trained_rows

FRAME_STEP = 11
"""Frames of a scene from one written frame to the next."""
JPEG_QUALITY = 95
TARGETS = "targets.json"


class Scene(Protocol):
    """A rendered scene with true boxes."""

    def render_full(self, frame_index: int) -> SceneFrame:
        """Render a frame with its true boxes and the visible share of each."""


@dataclass(frozen=True)
class SceneMaker:
    """Factory of rendered scenes with one frame size and rate; picklable, so that worker processes can have it."""

    size: tuple[int, int]
    fps: float

    def __call__(self, profile: str, seed: int) -> Scene:
        """Scene of a profile and a seed."""
        return StreetScene(profile, seed, *self.size, self.fps)


class FrameTargets(msgspec.Struct, frozen=True):
    """The targets of a written frame, and its size.

    Attributes:
        size: width and height, pixels.
        boxes_xyxy, labels: of `Targets`.
        numbers: of the targets in the frame's map of objects.
    """

    size: tuple[int, int]
    boxes_xyxy: list[tuple[float, float, float, float]]
    labels: list[int]
    numbers: list[int]

    def targets(self) -> Targets:
        """Convert to the arrays that training takes."""
        return Targets.of(self.boxes_xyxy, self.labels)


def write_scene(scene: Scene, frames: int, folder: Path) -> None:
    """Render `frames` frames of a scene into a folder; its table of targets appears last, when all are there."""
    table = []
    for number in range(frames):
        frame = scene.render_full(number * FRAME_STEP)
        with atomic_path(frame_path(folder, number)) as temporary:
            temporary.write_bytes(encode_jpeg(frame.image, JPEG_QUALITY))
        with atomic_path(objects_path(frame_path(folder, number))) as temporary:
            temporary.write_bytes(cv2.imencode(".png", frame.owners)[1].tobytes())
        targets = rendered_targets(frame.boxes, frame.visible, MIN_SIDE_PX)
        size = (frame.image.shape[1], frame.image.shape[0])
        numbers = frame.numbers[trained_rows(frame.boxes.labels)].tolist()
        table.append(FrameTargets(size, targets.boxes_xyxy.tolist(), targets.labels.tolist(), numbers))
    with atomic_path(folder / TARGETS) as temporary:
        temporary.write_bytes(msgspec.json.encode(table))


def read_scene(folder: Path) -> list[FrameTargets]:
    """Read the targets of a written scene, one of each frame.

    Raises:
        UserError: the table is damaged.
    """
    path = folder / TARGETS
    with damage_reported(f"table '{path}'", "remove its folder to have the scene rendered again"):
        return decode_json(path.read_bytes(), list[FrameTargets])


def is_written(folder: Path) -> bool:
    """Whether all of a scene is in the folder."""
    return (folder / TARGETS).is_file()


def frame_path(folder: Path, number: int) -> Path:
    """The JPEG of a frame of a written scene."""
    return folder / f"{number:03d}.jpg"


def objects_path(frame: Path) -> Path:
    """The map of objects, uint8 (H, W), that belongs to the JPEG of a frame."""
    return frame.with_suffix(".png")
