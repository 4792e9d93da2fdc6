"""MOTS text: tracks of masks, for tools that compute sMOTSA, MOTSA or HOTA of multi-object tracking and segmentation.

The format is that of https://www.vision.rwth-aachen.de/page/mots, with frames from 1 as in MOTSChallenge: frame, id,
class, height and width of the frame, and the mask in COCO's run-length encoding. Masks of one frame do not overlap.
There are two classes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.instance_masks import window_in_frame
from vitmalis.types import COCO_CLASSES, Detections
from vitmalis_jobs.evaluation.export.coco_rle import encoded
from vitmalis_jobs.evaluation.export.object_map import object_map
from vitmalis_jobs.evaluation.export.tracks import write_tracks
from vitmalis_jobs.run.page.build import PlayedRun

CLASSES = {COCO_CLASSES.index("car"): 1, COCO_CLASSES.index("person"): 2}
"""Number of each class that the format has, by its label."""


def write_mots(run: PlayedRun, folder: Path) -> list[Path]:
    """Write the tracks of a run's masks; returns the paths of `write_tracks`.

    Raises:
        UserError: the run has no masks.
    """
    if not run.has_masks:
        raise UserError("--format mots needs masks, and this run has none: model.task=instances finds them")
    size = run.session.video.size

    def lines(frame: int, objects: Detections, ids: NDArray[np.int64], *, truth: bool) -> Iterator[str]:
        return _lines(frame, objects, ids, size)

    return write_tracks(run, folder, lines)


def _lines(frame: int, objects: Detections, ids: NDArray[np.int64], size: tuple[int, int]) -> Iterator[str]:
    """Lines of the objects that others do not hide."""
    owners = object_map(objects, size)
    for row, (number, box, label) in enumerate(zip(ids, objects.boxes_xyxy, objects.labels.tolist(), strict=True)):
        left, top, right, bottom = window_in_frame(box, size)
        visible = owners[top:bottom, left:right] == row
        if label in CLASSES and visible.any():
            mask = encoded(visible, (left, top), size)
            yield f"{frame} {number} {CLASSES[label]} {' '.join(map(str, mask['size']))} {mask['counts']}"
