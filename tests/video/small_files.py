"""Small video files whose frames are told apart by their brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitmalis.types import RgbImage
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec, open_video

FPS = 10
FRAMES = 24


def grey(level: int, width: int = 64, height: int = 36) -> RgbImage:
    return np.full((height, width, 3), level, np.uint8)


def levels(spec: VideoSpec) -> list[int]:
    """Index of each delivered frame in a file whose frame i has the brightness 10 i."""
    return [round(float(image.mean()) / 10) for image in open_video(spec)]


def resolve(path: Path, seconds: float = 2.4, **options: float) -> VideoSpec:
    return resolve_clip("file", path=str(path), seconds=seconds, cache_dir=path.parent, **options)  # type: ignore[arg-type]
