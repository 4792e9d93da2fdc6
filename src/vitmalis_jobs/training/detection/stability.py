"""Steadiness of a detector from frame to frame.

`tracked_f1` bounds every policy: its boxes are one frame old at best, and tracked. `temporal_stability` and
`persistence` are shares of boxes that the next frame has again, whatever the tracker loses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from vitmalis.matching import DEFAULT_RULE, Counts, MatchRule, iou_matrix, match
from vitmalis.tracker import LucasKanadeTracker
from vitmalis.types import Detections, RgbImage


def tracked_f1(
    images: Iterable[RgbImage],
    shown: Iterable[Detections],
    references: Iterable[Detections],
    rule: MatchRule = DEFAULT_RULE,
) -> float | None:
    """F1 of boxes that the client's tracker has moved by one frame, against the references of that frame.

    Args:
        images: consecutive images, RGB uint8 (H, W, 3).
        shown: the boxes of each image that are moved into the next; often the references themselves.
        references: of each image.
        rule: which boxes count (score >= 0.5) and which match (label, IoU >= 0.5), as when a run is scored.

    Returns:
        0..1; None if no frame but the first has a reference.
    """
    tracker = LucasKanadeTracker()
    counts = Counts()
    prepared = (
        (tracker.prepare(image), found.above(rule.score_threshold)) for image, found in zip(images, shown, strict=True)
    )
    for ((image, now), _), ((next_image, _), reference) in itertools.pairwise(zip(prepared, references, strict=True)):
        tracker.restart(image, now)
        counts += match(tracker.step(next_image), reference, rule)
    return counts.f1


def temporal_stability(frames: Iterable[tuple[RgbImage, Detections]], rule: MatchRule = DEFAULT_RULE) -> float | None:
    """Share of boxes that the next frame has again after optical flow has moved them there.

    A client drops boxes that the flow loses. Here they stay in place: failures of the flow, in the dark for instance,
    are not the detector's.

    Args:
        frames: consecutive images, RGB uint8 (H, W, 3), and the detections in them.
        rule: which boxes count (score >= 0.5) and which are the same (label, IoU >= 0.5), each matched once.

    Returns:
        0..1; None if no frame but the last has a box.
    """
    tracker = LucasKanadeTracker()
    kept = total = 0
    sure = ((tracker.prepare(image), found.above(rule.score_threshold)) for image, found in frames)
    for (image, now), (next_image, following) in itertools.pairwise(sure):
        kept += match(tracker.moved(image, next_image, now), following, rule).tp
        total += len(now)
    return kept / total if total else None


def persistence(found: Sequence[Detections], rule: MatchRule = DEFAULT_RULE) -> float | None:
    """Share of boxes that the next frame has again at their place: the same class, overlap and score as `rule` asks.

    Unlike in `temporal_stability`, boxes are not moved, so that those of fast objects count as lost.

    Args:
        found: detections in consecutive frames.
        rule: which boxes count (score >= 0.5) and which are the same (label, IoU >= 0.5).

    Returns:
        0..1; None if no frame but the last has a box.
    """
    kept = total = 0
    sure = [detections.above(rule.score_threshold) for detections in found]
    for now, following in itertools.pairwise(sure):
        total += len(now)
        same = now.labels[:, None] == following.labels[None]
        overlap = iou_matrix(now.boxes_xyxy, following.boxes_xyxy)
        kept += int(((overlap >= rule.iou_threshold) & same).any(1).sum())
    return kept / total if total else None
