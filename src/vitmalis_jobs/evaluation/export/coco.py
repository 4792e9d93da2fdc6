"""COCO JSON: references as annotations, what the user saw as results, for any tool that computes COCO's AP.

The format is that of https://cocodataset.org/#format-data. An image is a frame of the clip, also one that the camera
lost, and its id is the frame's number. Category ids count from 1 in the order of `COCO_CLASSES`, without the gaps of
the data set's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.instance_masks import pasted, window_in_frame
from vitmalis.paths import atomic_path
from vitmalis.types import COCO_CLASSES, Detections
from vitmalis_jobs.evaluation.export.coco_rle import encoded
from vitmalis_jobs.run.page.build import PlayedRun

ANNOTATIONS, RESULTS = "annotations.json", "results.json"


def write_coco(run: PlayedRun, folder: Path) -> list[Path]:
    """Write the two files of a run; returns their paths.

    Boxes below the run's score threshold are neither annotations nor results, as in its own F1.

    Raises:
        UserError: the run has no references.
    """
    if run.references is None:
        raise UserError(
            "--format coco needs the run's references: leave --no-reference out; a camera's run has them once its "
            "recording was scored (vitmalis score), one with random weights never"
        )
    found = [folder / ANNOTATIONS, folder / RESULTS]
    for path, content in zip(found, (annotation_file(run, run.references), result_list(run)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_bytes(msgspec.json.encode(content))
    return found


def annotation_file(run: PlayedRun, references: Sequence[Detections]) -> dict[str, Any]:
    """The file of annotations as a dictionary; each has the score that the reference model gave it, too."""
    video = run.session.video
    rows = (
        {"area": box["bbox"][2] * box["bbox"][3]} | box | {"iscrowd": 0}
        for frame in run.records.frames
        for box in _objects(run, frame.frame_index, references[frame.frame_index])
    )
    return {
        "info": {"description": f"references of {video.name}, by the run's own model at full resolution"},
        "images": [
            {
                "id": frame.frame_index,
                "file_name": f"{frame.frame_index:06d}.jpg",
                "width": video.width,
                "height": video.height,
            }
            for frame in run.records.frames
        ],
        "annotations": [{"id": number} | row for number, row in enumerate(rows, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(COCO_CLASSES, 1)],
    }


def result_list(run: PlayedRun) -> list[dict[str, Any]]:
    """The file of results: the objects that the user saw on each frame."""
    return [row for frame in run.records.frames for row in _objects(run, frame.frame_index, frame.detections)]


def _objects(run: PlayedRun, frame_index: int, detections: Detections) -> Iterator[dict[str, Any]]:
    """The objects of a frame that count: boxes as left, top, width and height in pixels, and masks with their areas."""
    counted = detections.above(run.rule.score_threshold)
    rows = (counted.boxes_xyxy.tolist(), counted.scores.tolist(), counted.labels.tolist(), _masks(run, counted))
    for (x1, y1, x2, y2), score, label, mask in zip(*rows, strict=True):
        box = [x1, y1, x2 - x1, y2 - y1]
        yield {"image_id": frame_index, "category_id": label + 1, "bbox": box, "score": score} | mask


def _masks(run: PlayedRun, detections: Detections) -> list[dict[str, Any]]:
    """The mask and its area for each object; nothing for those without masks."""
    if detections.masks is None:
        return [{}] * len(detections)
    pairs = zip(detections.masks, detections.boxes_xyxy, strict=True)
    return [_mask(mask, box, run.session.video.size) for mask, box in pairs]


def _mask(mask: NDArray[np.uint8], box_xyxy: NDArray[np.float32], frame_size: tuple[int, int]) -> dict[str, Any]:
    left, top, *_ = window = window_in_frame(box_xyxy, frame_size)
    drawn = pasted(mask, box_xyxy, window)
    return {"segmentation": encoded(drawn, (left, top), frame_size), "area": int(drawn.sum())}
