"""Scores of masks on rendered scenes that were not trained on: mean IoU with the pixels that show the objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitmalis.detector.detector import image_tensor
from vitmalis.detector.fcos import FcosDetector
from vitmalis.instance_masks import filled_masks
from vitmalis.matching import iou_matrix
from vitmalis.types import SCORE_THRESHOLD, Detections
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.training.detection.labels import IGNORE, VALIDATED_SIDE_PX, rendered_targets, trained_rows
from vitmalis_jobs.training.detection.rendered_scenes import Scene

MATCH_IOU = 0.5
"""A detected box is an object's from this overlap on."""


@dataclass(frozen=True)
class MaskFrame:
    """A rendered frame with its objects.

    Attributes:
        scene: the frame.
        objects: true boxes of the objects that count, with trained classes.
        numbers: (N,), of the objects in `scene.owners`.
    """

    scene: SceneFrame
    objects: Detections
    numbers: NDArray[np.uint8]

    @classmethod
    def of(cls, scene: SceneFrame) -> MaskFrame:
        """The frame without objects that are too small or too much hidden."""
        targets = rendered_targets(scene.boxes, scene.visible, VALIDATED_SIDE_PX)
        counted = targets.labels != IGNORE
        objects = Detections.of(targets.boxes_xyxy, np.ones(len(targets)), targets.labels).select(counted)
        return cls(scene, objects, scene.numbers[trained_rows(scene.boxes.labels)][counted])


def validation_frames(make: Callable[[str, int], Scene], profiles: Sequence[str], count: int) -> list[MaskFrame]:
    """One frame of each of `count` scenes of each profile, with seeds 1, 2, ..., as detectors are validated on."""
    return [
        MaskFrame.of(make(profile, seed).render_full(30 * seed)) for profile in profiles for seed in range(1, count + 1)
    ]


@dataclass(frozen=True)
class MaskScores:
    """Mean IoU of masks with what is visible of their objects.

    Attributes:
        true_boxes: of the masks in true boxes.
        filled_true_boxes: of true boxes themselves, for comparison.
        detected_boxes: of the masks of detected objects.
        filled_detected_boxes: of their boxes themselves.
        objects, detected: how many objects there are, and how many of them were detected.
    """

    true_boxes: float
    filled_true_boxes: float
    detected_boxes: float
    filled_detected_boxes: float
    objects: int
    detected: int


@torch.inference_mode()
def score_masks(model: FcosDetector, frames: Sequence[MaskFrame]) -> MaskScores:
    """Score the mask head of a detector in evaluation mode."""
    given, filled, found_ious, found_filled = [], [], [], []
    for frame in frames:
        levels, found = _found(model, frame)
        (true,) = model.with_masks(levels, [frame.objects])
        given += _ious(frame, true, range(len(true)))
        filled += _ious(frame, _filled(true), range(len(true)))
        rows, objects = matched(found, frame.objects)
        found_ious += _ious(frame, found.select(rows), objects)
        found_filled += _ious(frame, _filled(found.select(rows)), objects)
    return MaskScores(
        true_boxes=_mean(given),
        filled_true_boxes=_mean(filled),
        detected_boxes=_mean(found_ious),
        filled_detected_boxes=_mean(found_filled),
        objects=len(given),
        detected=len(found_ious),
    )


def _found(model: FcosDetector, frame: MaskFrame) -> tuple[list[torch.Tensor], Detections]:
    """The pyramid of a frame, and the detected objects that would be shown."""
    image = image_tensor(frame.scene.image, next(model.parameters()).device)
    levels = model.backbone(model.prepare(image))
    (found,) = model.detect_in(levels, frame.scene.image.shape[:2])
    return levels, found.above(SCORE_THRESHOLD)


def matched(found: Detections, objects: Detections) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of detections, best first, and the object of each: of the same class, and the one that it overlaps most."""
    pairs: dict[int, int] = {}
    if len(found) and len(objects):
        overlap = iou_matrix(found.boxes_xyxy, objects.boxes_xyxy) * (found.labels[:, None] == objects.labels)
        for row in range(len(found)):
            best = int(overlap[row].argmax())
            if overlap[row, best] >= MATCH_IOU and best not in pairs.values():
                pairs[row] = best
    return np.array([*pairs], np.int64), np.array([*pairs.values()], np.int64)


def _ious(frame: MaskFrame, masked: Detections, objects: Sequence[int] | NDArray[np.int64]) -> list[float]:
    """IoU of each mask, drawn in the frame, with the visible pixels of its object."""
    height, width = frame.scene.owners.shape
    drawn = masked.masks_in_frame(width, height)
    assert drawn is not None
    numbers = frame.numbers[np.asarray(objects, int)]
    visible = frame.scene.owners == numbers[:, None, None]
    both, either = (np.count_nonzero(pixels, axis=(1, 2)) for pixels in (drawn & visible, drawn | visible))
    return (both / np.maximum(either, 1)).tolist()


def _mean(ious: list[float]) -> float:
    return float(np.mean(ious)) if ious else 0.0


def _filled(detections: Detections) -> Detections:
    return replace(detections, masks=filled_masks(len(detections)))
