"""Training targets: the trained classes, a teacher's pseudo-labels from CSV files, and boxes that are ignored."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.matching import iou_matrix
from vitmalis.types import Detections
from vitmalis_jobs.training.detection.csv_rows import MAX_COORDINATE_PX, read_rows

CLASSES = (0, 1, 2, 5, 9)
"""The trained classes: person, bicycle, car, bus, traffic light (indices into `COCO_CLASSES`)."""

IGNORE = -1
"""Class of an ignored box: what lies in it counts neither as background nor as an object."""

POSITIVE_SCORE = 0.4
"""A teacher's box is an object from this score on."""
UNSURE_SCORE = 0.25
"""A teacher's box is ignored from this score on, and left out below."""
SAME_VEHICLE_IOU = 0.6
"""Boxes of vehicles that overlap more are one vehicle."""
FACADE_TOP_PX = 8
"""A facade that the teacher takes for a vehicle begins within so many rows of the top."""
MIN_VISIBLE = 0.3
"""An object of which a smaller share is visible is ignored."""
MIN_SIDE_PX = 8
"""In training, an object whose longer side is shorter is ignored."""
VALIDATED_SIDE_PX = 12
"""In rendered validation sets, an object whose longer side is shorter is ignored.

It is not that of training, so that scores can be compared with those of models that were trained with another one."""

MAX_FRAMES = 10**7
"""Largest number of a frame in a teacher's labels."""

VEHICLES = (2, 5, 6, 7)
"""COCO's car, bus, train and truck, which teachers confuse."""

# A truck, a train and a streetcar are all trained as "bus": a model of 3 M parameters cannot tell large vehicles apart.
# A motorcycle is ignored: too rare to train on, and too similar to a bicycle to count as background.
_TRAINED_AS = {0: 0, 1: 1, 2: 2, 5: 5, 6: 5, 7: 5, 9: 9, 3: IGNORE}


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Boxes of one training image.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the image.
        labels: int64 (N,), one of `CLASSES`, or `IGNORE`.
    """

    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, boxes_xyxy: object, labels: object) -> Targets:
        """Build from anything array-like, converting dtypes."""
        return cls(np.asarray(boxes_xyxy, np.float32).reshape(-1, 4), np.asarray(labels, np.int64).reshape(-1))

    def objects(self) -> Targets:
        """The objects, without the ignored boxes."""
        return self.select(self.labels != IGNORE)

    def select(self, keep: NDArray) -> Targets:
        """Rows chosen by a bool mask (N,) or by indices."""
        return Targets(self.boxes_xyxy[keep], self.labels[keep])


def trained_class(label: int) -> int | None:
    """Class under which a COCO class is trained: one of `CLASSES`, `IGNORE`, or None for background."""
    return _TRAINED_AS.get(label)


def read_teacher(path: Path) -> dict[int, Detections]:
    """Read a teacher's boxes by frame of the original file, in its pixels.

    Args:
        path: CSV `frame,x1,y1,x2,y2,score,coco_class`.

    Raises:
        UserError: a missing file or a row that cannot be read.
    """
    if not path.is_file():
        raise UserError(f"teacher labels '{path}' are missing: set clips.folder to a folder with labels/<clip>.csv")
    rows: dict[int, list[list[float]]] = defaultdict(list)
    for row in read_rows(path, "teacher labels", ("frame", "x1", "y1", "x2", "y2", "score", "coco_class")):
        box = row.box(-MAX_COORDINATE_PX, MAX_COORDINATE_PX, MAX_COORDINATE_PX)
        rows[row.whole("frame", 0, MAX_FRAMES)].append([*box, row.real("score", 0, 1), row.coco_class("coco_class")])
    return {frame: detections_of(values) for frame, values in rows.items()}


def detections_of(rows: list[list[float]]) -> Detections:
    """Detections of rows `x1, y1, x2, y2, score, class`."""
    columns = np.array(rows, np.float32).reshape(-1, 6)
    return Detections.of(columns[:, :4], columns[:, 4], columns[:, 5])


def teacher_targets(teacher: Detections, *, facades: bool = False) -> Targets:
    """Turn the teacher's boxes of one frame into targets.

    Sure boxes (score >= 0.4) are objects, unsure ones (0.25..0.4) are ignored. Of several boxes on one vehicle (as a
    car and as a truck, for example) the one with the highest score stays.

    Args:
        teacher: boxes of one frame, any COCO class, score >= 0.25.
        facades: for footage where the teacher takes house fronts for large vehicles (market1906): buses, trains and
            trucks that reach the top of the image are ignored.
    """
    boxes, labels = [], []
    vehicles: list[NDArray[np.float32]] = []
    for row in np.argsort(-teacher.scores, kind="stable"):
        box, score, raw = teacher.boxes_xyxy[row], float(teacher.scores[row]), int(teacher.labels[row])
        label = trained_class(raw)
        if label is None or score < UNSURE_SCORE:
            continue
        if raw in VEHICLES:
            if vehicles and iou_matrix(box[None], np.stack(vehicles)).max() > SAME_VEHICLE_IOU:
                continue
            vehicles.append(box)
        facade = facades and label == 5 and box[1] < FACADE_TOP_PX
        boxes.append(box)
        labels.append(label if score >= POSITIVE_SCORE and not facade else IGNORE)
    return Targets.of(boxes, labels)


def trained_rows(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these COCO classes (N,) are trained, as objects or as ignored boxes."""
    return np.array([trained_class(int(label)) is not None for label in labels], bool)


def rendered_targets(truth: Detections, visible: NDArray[np.float32], min_side_px: int) -> Targets:
    """Turn the true boxes of a rendered frame into targets.

    Args:
        truth: boxes of any COCO class; classes that are not trained are left out.
        visible: (N,) visible share of each object; below `MIN_VISIBLE` it is ignored.
        min_side_px: an object whose longer side is shorter is ignored.
    """
    labels = [trained_class(int(label)) for label in truth.labels]
    known = np.array([IGNORE if label is None else label for label in labels], np.int64)
    sides = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
    unsure = (visible < MIN_VISIBLE) | (sides.max(1, initial=0) < min_side_px)
    return Targets.of(truth.boxes_xyxy, np.where(unsure, IGNORE, known)).select(trained_rows(truth.labels))
