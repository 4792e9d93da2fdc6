"""Streaming average precision (sAP): COCO's AP of the boxes shown on each frame, against what is in that frame.

What is shown is compared with the frame being displayed and not with the one that it was computed for, so that latency
counts as error (Li, Wang and Ramanan, "Towards Streaming Perception", ECCV 2020). AP is COCO's: the area under
precision over recall at 101 points, mean over IoU thresholds 0.50 to 0.95 and over the classes that occur. A client
does not show boxes below `eval.score_threshold`, so that precision is 0 at the recall that only these would reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.matching import iou_matrix
from vitmalis.types import Detections

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100
_RECALLS = np.linspace(0.0, 1.0, 101)


def streaming_ap(shown: Sequence[Detections], references: Sequence[Detections]) -> dict[str, float]:
    """Compute `streaming_ap` and, at IoU 0.5 alone, `streaming_ap_50`; nothing where there is no reference box.

    Args:
        shown: the boxes on the screen at the deadline of each frame.
        references: what is in each of these frames.
    """
    classes = sorted({int(label) for reference in references for label in reference.labels})
    if not classes:
        return {}
    ap = np.mean([_ap_of_class(shown, references, label) for label in classes], axis=0)
    return {"streaming_ap": float(ap.mean()), "streaming_ap_50": float(ap[0])}


def _ap_of_class(shown: Sequence[Detections], references: Sequence[Detections], label: int) -> NDArray[np.float64]:
    """AP of one class at each of `IOU_THRESHOLDS`."""
    hits, scores, objects = [], [], 0
    for found, reference in zip(shown, references, strict=True):
        found, reference = found.select(found.labels == label), reference.select(reference.labels == label)
        found = found.select(np.argsort(-found.scores, kind="stable"))
        hits.append(_hits(iou_matrix(found.boxes_xyxy, reference.boxes_xyxy)))
        scores.append(found.scores)
        objects += len(reference)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.array([_area(row[order], objects) for row in np.concatenate(hits, axis=1)])


def _hits(overlap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes of a frame find an object, by falling score: (thresholds, N) of their IoU with objects, (N, M)."""
    hits = np.zeros((len(IOU_THRESHOLDS), len(overlap)), bool)
    for place, threshold in enumerate(IOU_THRESHOLDS):
        free = overlap.copy()
        for row in range(len(overlap)):
            if free.shape[1] and free[row].max() >= threshold:
                hits[place, row] = True
                free[:, free[row].argmax()] = -1.0
    return hits


def _area(hits: NDArray[np.bool_], objects: int) -> float:
    """Area under precision over recall of boxes by falling score; precision is the highest at any higher recall."""
    found = np.cumsum(hits)
    precision = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    place = np.searchsorted(found / objects, _RECALLS)
    return float(np.append(precision, 0.0)[place].mean())
