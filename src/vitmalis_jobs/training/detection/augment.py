"""Augmentation: random views of a frame with its boxes, and photometric changes; randomness comes from the caller."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection.labels import IGNORE, MIN_SIDE_PX, MIN_VISIBLE, Targets

PAD_VALUE = 114
"""Grey value of pixels outside the frame."""


@dataclass(frozen=True)
class View:
    """A window onto a frame: crop, then scale, then perhaps mirror.

    Attributes:
        x_px, y_px: upper left corner of the window in the frame.
        scale: output pixels per frame pixel.
        width_px, height_px: size of the output.
        flip: mirror left and right.
    """

    x_px: float
    y_px: float
    scale: float
    width_px: int
    height_px: int
    flip: bool


def random_view(
    rng: np.random.Generator,
    frame_size: tuple[int, int],
    targets: Targets,
    size: tuple[int, int],
    scale_range: tuple[float, float],
    max_scale: float = 2.0,
) -> View:
    """Draw a random view; two in three contain an object, so that crops of empty road do not dominate.

    Args:
        rng: source of randomness.
        frame_size: width and height of the frame, pixels.
        targets: the frame's boxes.
        size: width and height of the view, pixels.
        scale_range: smallest and largest scale, drawn log-uniformly.
        max_scale: upper limit of the scale, whatever the range.
    """
    low, high = scale_range
    scale = min(float(np.exp(rng.uniform(np.log(low), np.log(high)))), max_scale)
    width, height = size[0] / scale, size[1] / scale
    objects = targets.objects().boxes_xyxy
    aimed = len(objects) > 0 and rng.random() < 0.67
    box = objects[rng.integers(len(objects))] if aimed else None
    corner = [
        _corner(rng, frame_size[axis], span, None if box is None else (box[axis] + box[axis + 2]) / 2)
        for axis, span in enumerate((width, height))
    ]
    return View(corner[0], corner[1], scale, size[0], size[1], bool(rng.random() < 0.5))


def _corner(rng: np.random.Generator, frame: int, span: float, centre: float | None) -> float:
    """Draw where a view of `span` px begins along one axis of a frame; with a `centre`, the view contains it."""
    slack = frame - span
    if slack <= 0:
        # As the model pads right and below only, most views do the same.
        return 0.0 if rng.random() < 0.7 else float(rng.uniform(slack, 0))
    if centre is None:
        return float(rng.uniform(0, slack))
    return float(np.clip(centre - span * rng.uniform(0.1, 0.9), 0, slack))


def apply_view(image: RgbImage, targets: Targets, view: View) -> tuple[RgbImage, Targets]:
    """Cut a view out of a frame, and move the frame's boxes into it.

    Boxes are clipped to the view. A box of which less than `MIN_VISIBLE` remains, or no side of `MIN_SIDE_PX`, is
    ignored; one of which nothing remains is left out.
    """
    out = _cut(image, view)
    boxes = (targets.boxes_xyxy - np.array([view.x_px, view.y_px] * 2, np.float32)) * np.float32(view.scale)
    if view.flip:
        out = np.ascontiguousarray(out[:, ::-1])
        boxes = np.stack([view.width_px - boxes[:, 2], boxes[:, 1], view.width_px - boxes[:, 0], boxes[:, 3]], axis=1)
    limits = np.array([view.width_px, view.height_px] * 2, np.float32)
    clipped = np.clip(boxes, 0, limits)
    sides, full_sides = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(1) / np.maximum(full_sides.prod(1), 1e-6)
    unsure = (visible < MIN_VISIBLE) | (sides.max(1, initial=0) < MIN_SIDE_PX)
    labels = np.where(unsure, IGNORE, targets.labels)
    return out, Targets(clipped, labels).select((sides > 1).all(1))


def _cut(image: RgbImage, view: View) -> RgbImage:
    """Crop and scale a frame to a view, without its mirroring; pixels outside the frame are `PAD_VALUE`."""
    height, width = image.shape[:2]
    x0, y0 = max(0, int(view.x_px)), max(0, int(view.y_px))
    x1 = min(width, int(np.ceil(view.x_px + view.width_px / view.scale)) + 1)
    y1 = min(height, int(np.ceil(view.y_px + view.height_px / view.scale)) + 1)
    window: np.ndarray = image[y0:y1, x0:x1]
    if view.scale < 0.75:
        # Bilinear warping aliases when it shrinks an image: blur first, by about the lost resolution.
        window = cv2.GaussianBlur(window, (0, 0), 0.4 / view.scale)
    half = 0.5 / view.scale - 0.5
    matrix = np.array(
        [
            [1 / view.scale, 0, view.x_px - x0 + half],
            [0, 1 / view.scale, view.y_px - y0 + half],
        ]
    )
    out: RgbImage = cv2.warpAffine(
        window,
        matrix,
        (view.width_px, view.height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.uint8, copy=False)
    right = int(np.ceil((width - view.x_px) * view.scale))
    below = int(np.ceil((height - view.y_px) * view.scale))
    out[:, max(0, right) :] = PAD_VALUE
    out[max(0, below) :] = PAD_VALUE
    out[:, : max(0, int(-view.x_px * view.scale))] = PAD_VALUE
    out[: max(0, int(-view.y_px * view.scale))] = PAD_VALUE
    return out


def photometric(rng: np.random.Generator, image: RgbImage) -> RgbImage:
    """Vary light, colour, lens and codec: gain, gamma, cast, grey, darkness, blur, noise, JPEG quality 60..100."""
    out: np.ndarray = image.astype(np.float32) / 255
    if rng.random() < 0.8:
        contrast, gain = rng.uniform(0.7, 1.35), rng.uniform(0.75, 1.3)
        mean = out.mean()
        out = ((out - mean) * contrast + mean) * gain
    if rng.random() < 0.5:
        out = out * rng.uniform(0.88, 1.12, size=3).astype(np.float32)
    out = _saturate(rng, out)
    out = np.clip(out, 0, 1)
    if rng.random() < 0.4:
        out = out ** np.float32(rng.uniform(0.65, 1.5))
    if rng.random() < 0.1:
        out = out * np.float32(rng.uniform(0.25, 0.6))
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.25:
        out = out + rng.normal(0, rng.uniform(0.005, 0.035), out.shape[:2])[..., None].astype(np.float32)
    coded = (np.clip(out, 0, 1) * 255).round().astype(np.uint8)
    return _jpeg(coded, int(rng.integers(60, 101))) if rng.random() < 0.6 else coded


def _saturate(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Vary the saturation of a float image, down to grey."""
    grey = image.mean(2, keepdims=True)
    kind = rng.random()
    if kind < 0.15:
        return np.repeat(grey, 3, axis=2)
    if kind < 0.6:
        return grey + (image - grey) * np.float32(rng.uniform(0.4, 1.5))
    return image


def _jpeg(image: RgbImage, quality: int) -> RgbImage:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: np.ndarray = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]  # own bytes: never None
    return np.ascontiguousarray(decoded[..., ::-1])
