"""Random views: which window of a frame a training image shows, at which scale, and where the boxes are in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitmalis_jobs.training.detection.labels import IGNORE, MIN_SIDE_PX, MIN_VISIBLE, Targets

AIMED = 0.67
"""Probability that a view contains an object, where there is one, so that empty road does not dominate."""
AT_CORNER = 0.7
"""Probability that a frame smaller than its view lies in the upper left corner: the model pads right and below only."""
WHOLE_FRAME_SCALES = (0.8, 1.0)
"""Smallest and largest scale of a whole frame, relative to the one at which it just fits into the view."""


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
) -> View:
    """Draw a random view; two in three contain an object.

    Args:
        rng: source of randomness.
        frame_size: width and height of the frame, pixels.
        targets: the frame's boxes.
        size: width and height of the view, pixels.
        scale_range: smallest and largest scale, drawn log-uniformly.
    """
    scale = _log_uniform(rng, *scale_range)
    objects = targets.objects().boxes_xyxy
    aimed = len(objects) > 0 and rng.random() < AIMED
    box = objects[rng.integers(len(objects))] if aimed else None
    corner = [
        _corner(rng, frame_size[axis], size[axis] / scale, None if box is None else (box[axis] + box[axis + 2]) / 2)
        for axis in (0, 1)
    ]
    return View(corner[0], corner[1], scale, size[0], size[1], bool(rng.random() < 0.5))


def whole_frame_view(rng: np.random.Generator, frame_size: tuple[int, int], size: tuple[int, int]) -> View:
    """Draw a view of a whole frame, scaled to 80 to 100 % of what fits; the arguments are those of `random_view`."""
    fitting = min(size[0] / frame_size[0], size[1] / frame_size[1])
    scale = fitting * _log_uniform(rng, *WHOLE_FRAME_SCALES)
    x, y = (_corner(rng, frame_size[axis], size[axis] / scale, None) for axis in (0, 1))
    return View(x, y, scale, size[0], size[1], bool(rng.random() < 0.5))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _corner(rng: np.random.Generator, frame: int, span: float, centre: float | None) -> float:
    """Draw where a view of `span` px begins along one axis of a frame; with a `centre`, the view contains it."""
    slack = frame - span
    if slack <= 0:
        return 0.0 if rng.random() < AT_CORNER else float(rng.uniform(slack, 0))
    if centre is None:
        return float(rng.uniform(0, slack))
    return float(np.clip(centre - span * rng.uniform(0.1, 0.9), 0, slack))


def targets_in(view: View, targets: Targets) -> Targets:
    """Move a frame's boxes into a view of it.

    Boxes are clipped to the view. A box of which less than `MIN_VISIBLE` remains, or no side of `MIN_SIDE_PX`, is
    ignored; one of which nothing remains is left out.
    """
    boxes = (targets.boxes_xyxy - np.array([view.x_px, view.y_px] * 2, np.float32)) * np.float32(view.scale)
    if view.flip:
        boxes = np.stack([view.width_px - boxes[:, 2], boxes[:, 1], view.width_px - boxes[:, 0], boxes[:, 3]], axis=1)
    clipped = np.clip(boxes, 0, np.array([view.width_px, view.height_px] * 2, np.float32))
    sides, full_sides = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(1) / np.maximum(full_sides.prod(1), 1e-6)
    unsure = (visible < MIN_VISIBLE) | (sides.max(1, initial=0) < MIN_SIDE_PX)
    labels = np.where(unsure, IGNORE, targets.labels)
    return Targets(clipped, labels).select((sides > 1).all(1))
