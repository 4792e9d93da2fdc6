"""How steady a detector's boxes are from frame to frame, once the motion of what they show is taken out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from vitmalis.metrics import DEFAULT_RULE, MatchRule, match
from vitmalis.tracker import OpticalFlowTracker
from vitmalis.tracker.optical_flow import GrayImage, track_boxes
from vitmalis.types import Detections, RgbImage


def temporal_stability(frames: Iterable[tuple[RgbImage, Detections]], rule: MatchRule = DEFAULT_RULE) -> float:
    """Share of boxes that the next frame has again, where optical flow says they have gone to.

    Args:
        frames: consecutive images, RGB uint8 (H, W, 3), and what was found in them.
        rule: which boxes count (score >= 0.5) and which are the same (label, IoU >= 0.5), each matched once.

    Returns:
        0..1; NaN if no frame but the last has a box.
    """
    tracker = OpticalFlowTracker()
    kept = total = 0
    sure = ((tracker.prepare(image), found.above(rule.score_threshold)) for image, found in frames)
    for (image, now), (next_image, following) in itertools.pairwise(sure):
        kept += match(moved(tracker, image, next_image, now), following, rule).tp
        total += len(now)
    return kept / total if total else float("nan")


def moved(tracker: OpticalFlowTracker, image: GrayImage, next_image: GrayImage, found: Detections) -> Detections:
    """Boxes of one prepared image where they are in the next; those that the flow loses stay in place.

    A client drops lost boxes. Here that would blame the detector for the flow's failures, in the dark for instance.
    """
    if not len(found):
        return found
    scale = np.float32(tracker.options.scale)
    boxes, tracked = track_boxes(image, next_image, found.boxes_xyxy * scale, tracker.options)
    return Detections(np.where(tracked[:, None], boxes / scale, found.boxes_xyxy), found.scores, found.labels)
