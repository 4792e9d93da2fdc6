"""Contact sheets: validation frames with the model's detections and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vitmalis.paths import atomic_path
from vitmalis.types import COCO_CLASSES, Detections, RgbImage
from vitmalis_jobs.training.detection.labels import IGNORE, Targets

CLASS_COLOURS = {0: (60, 220, 60), 1: (240, 220, 40), 2: (240, 60, 60), 5: (60, 120, 255), 9: (240, 60, 240)}
"""RGB by class, bright enough to be seen on footage."""
OBJECT_COLOUR = (255, 255, 255)
IGNORED_COLOUR = (140, 140, 140)


def draw(image: RgbImage, found: Detections, truth: Targets | None = None, score: float = 0.5) -> RgbImage:
    """Draw detections from `score` on in the colour of their class, labelled objects white and ignored boxes grey."""
    out = image.copy()
    if truth is not None:
        for box, label in zip(truth.boxes_xyxy, truth.labels, strict=True):
            _rectangle(out, box, IGNORED_COLOUR if label == IGNORE else OBJECT_COLOUR, 1)
    shown = found.above(score)
    for box, value, label in zip(shown.boxes_xyxy, shown.scores, shown.labels, strict=True):
        colour = CLASS_COLOURS.get(int(label), OBJECT_COLOUR)
        _rectangle(out, box, colour, 2)
        text = f"{COCO_CLASSES[int(label)]} {value:.2f}"
        cv2.putText(out, text, (int(box[0]), max(10, int(box[1]) - 3)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1)
    return out


def _rectangle(image: RgbImage, box: np.ndarray, colour: tuple[int, int, int], thickness: int) -> None:
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, thickness)


def contact_sheet(images: Sequence[RgbImage], columns: int, tile_width_px: int) -> RgbImage:
    """Tile images of any size in rows of `columns`."""
    tiles = [cv2.resize(i, (tile_width_px, tile_width_px * 9 // 16), interpolation=cv2.INTER_AREA) for i in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def save_image(path: Path, image: RgbImage, quality: int = 85) -> None:
    """Write an RGB image as JPEG or PNG, as the suffix says."""
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
