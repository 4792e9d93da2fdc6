"""Hysteresis in references: an object appears at one score and stays, while it is tracked, down to a lower one.

A detector whose scores cross the threshold back and forth makes references flicker, which no policy can follow. This is
an option next to the paper's rule, by which each frame's references are its own detections above one score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from vitmalis.errors import UserError
from vitmalis.matching import DEFAULT_RULE, iou_matrix
from vitmalis.tracker import LucasKanadeTracker
from vitmalis.types import BoolMask, Detections, RgbImage


class Hysteresis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two scores of hysteresis.

    Attributes:
        appear: score from which on an object appears.
        stay: score down to which it stays, frame by frame.

    Raises:
        UserError: they are not 0 < stay < appear <= 1.
    """

    appear: float = 0.6
    stay: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.stay < self.appear <= 1:
            raise UserError(
                f"hysteresis: stay={self.stay:g} must lie above 0 and below appear={self.appear:g}, which is at most 1"
            )

    def __str__(self) -> str:
        return f"from {self.appear:g} on, down to {self.stay:g}"


def with_hysteresis(
    images: Iterable[RgbImage], detections: Iterable[Detections], hysteresis: Hysteresis
) -> Iterator[Detections]:
    """Select the detections of consecutive frames by two scores instead of one.

    An object stays where a box of its class overlaps the place that it is tracked to (IoU >= 0.5, each box for one
    object); one that the tracker loses is looked for where it was.

    Args:
        images: RGB uint8 (H, W, 3).
        detections: all of each image, also those with low scores.
        hysteresis: the scores.

    Yields:
        The objects of each frame, with the boxes of its detections; scores below `appear` are raised to it, so that
        all count as references.
    """
    tracker = LucasKanadeTracker()
    before, objects = None, Detections.empty()
    for image, found in zip(images, detections, strict=True):
        now = tracker.prepare(image)
        places = objects if before is None else tracker.moved(before, now, objects)
        candidates = found.above(hysteresis.stay)
        objects = candidates.select((candidates.scores >= hysteresis.appear) | _continued(candidates, places))
        raised = np.maximum(objects.scores, np.float32(hysteresis.appear))
        before = now
        yield replace(objects, scores=raised)


def _continued(found: Detections, places: Detections) -> BoolMask:
    """Which detections, by falling score, take a free place of their class that they overlap: bool (N,)."""
    overlap = iou_matrix(found.boxes_xyxy, places.boxes_xyxy)
    overlap[found.labels[:, None] != places.labels[None]] = -1
    taken = np.zeros(len(found), np.bool_)
    for row in np.argsort(-found.scores, kind="stable") if len(places) else ():
        best = int(overlap[row].argmax())
        if overlap[row, best] >= DEFAULT_RULE.iou_threshold:
            taken[row] = True
            overlap[:, best] = -1
    return taken
