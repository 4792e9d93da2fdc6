"""Streaming AP: equal to COCO's own evaluation, and by hand for a box that is late."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitmalis.types import Detections
from vitmalis_jobs.run.streaming_ap import streaming_ap


def drawn(frames: int = 40) -> tuple[list[Detections], list[Detections]]:
    """Shown and reference boxes of two classes, some wrong, some missing, some off."""
    draws = np.random.default_rng(3)
    shown, references = [], []
    for _ in range(frames):
        corners = draws.uniform(0, 300, (draws.integers(0, 5), 2))
        boxes = np.concatenate([corners, corners + draws.uniform(30, 90, corners.shape)], axis=1)
        labels = draws.choice([0, 2], len(boxes))
        references.append(Detections.of(boxes, np.ones(len(boxes)), labels))
        kept = draws.random(len(boxes)) < 0.8
        moved = boxes[kept] + draws.normal(0, 6, (kept.sum(), 4))
        more = np.array([[10.0, 10.0, 60.0, 60.0]])[: draws.integers(0, 2)]
        found = np.concatenate([moved, more.reshape(-1, 4)])
        scores = draws.uniform(0.5, 1.0, len(found))
        shown.append(Detections.of(found, scores, [*labels[kept], *[0] * len(more)]))
    return shown, references


def coco_ap(shown: list[Detections], references: list[Detections]) -> tuple[float, float]:
    def rows(frames: list[Detections]) -> list[dict]:
        found = []
        for image, boxes in enumerate(frames):
            for (x0, y0, x1, y1), score, label in zip(
                boxes.boxes_xyxy.tolist(), boxes.scores, boxes.labels, strict=True
            ):
                size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
                found.append(
                    size | {"id": len(found) + 1, "image_id": image, "category_id": int(label), "score": score}
                )
        return found

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(references))],
            "categories": [{"id": 0}, {"id": 2}],
            "annotations": rows(references),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows(shown)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def test_it_is_cocos() -> None:
    shown, references = drawn()
    found = streaming_ap(shown, references)
    assert 0.1 < found["streaming_ap"] < found["streaming_ap_50"] < 0.95
    assert (found["streaming_ap"], found["streaming_ap_50"]) == pytest.approx(coco_ap(shown, references), abs=1e-6)


def test_a_box_that_is_late_counts_as_far_as_it_still_overlaps() -> None:
    """A box of 100 px, 10 px behind: IoU 90 / 110 = 0.82, above 7 of the 10 thresholds (0.50 to 0.80)."""
    references = [Detections.of([[x, 0, x + 100, 50]], [1.0], [0]) for x in range(0, 100, 10)]
    late = [references[0], *references[:-1]]
    assert streaming_ap(references, references) == {"streaming_ap": 1.0, "streaming_ap_50": 1.0}
    # The first frame's box is in place, and all scores are equal: of the other thresholds it finds 1 of 10 objects.
    found = streaming_ap(late, references)
    assert found["streaming_ap_50"] == 1.0
    assert found["streaming_ap"] == pytest.approx(0.7 + 0.3 * 11 / 101)


def test_without_a_reference_there_is_no_ap() -> None:
    boxes = Detections.of([[0, 0, 9, 9]], [0.9], [0])
    assert streaming_ap([boxes], [Detections.empty()]) == {}
    assert streaming_ap([Detections.empty()], [boxes]) == {"streaming_ap": 0.0, "streaming_ap_50": 0.0}
