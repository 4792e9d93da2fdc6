from pathlib import Path

import numpy as np
import pytest

from vitmalis.detector import preset
from vitmalis.errors import UserError
from vitmalis.types import COCO_CLASSES, Detections
from vitmalis_jobs.training.detection.labelled_clips import split_frames
from vitmalis_jobs.training.detection.labels import (
    CLASSES,
    IGNORE,
    MIN_SIDE_PX,
    VALIDATED_SIDE_PX,
    read_teacher,
    rendered_targets,
    teacher_targets,
    trained_class,
)

BOX = (100.0, 100.0, 150.0, 200.0)


def detections(*rows: tuple) -> Detections:
    """Rows (box, score, class name)."""
    return Detections.of(
        [box for box, _, _ in rows], [score for _, score, _ in rows], [COCO_CLASSES.index(name) for *_, name in rows]
    )


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("person", "person"),
        ("bicycle", "bicycle"),
        ("car", "car"),
        ("bus", "bus"),
        ("truck", "bus"),
        ("train", "bus"),
        ("traffic light", "traffic light"),
    ],
)
def test_classes_are_trained_as(name: str, trained: str) -> None:
    assert trained_class(COCO_CLASSES.index(name)) == COCO_CLASSES.index(trained)


def test_motorcycles_are_ignored_and_dogs_are_background() -> None:
    assert trained_class(COCO_CLASSES.index("motorcycle")) == IGNORE
    assert trained_class(COCO_CLASSES.index("dog")) is None


def test_trained_classes_are_those_of_the_preset() -> None:
    assert preset("vitdet_tiny").classes == CLASSES


def test_scores_decide_between_object_ignored_and_nothing() -> None:
    far = tuple(value + 300 for value in BOX)
    further = tuple(value + 600 for value in BOX)
    targets = teacher_targets(detections((BOX, 0.4, "person"), (far, 0.39, "person"), (further, 0.24, "person")))
    assert targets.labels.tolist() == [0, IGNORE]
    assert targets.boxes_xyxy.tolist() == [list(BOX), list(far)]


def test_of_two_boxes_on_one_vehicle_the_surer_stays() -> None:
    targets = teacher_targets(detections((BOX, 0.5, "car"), (BOX, 0.6, "truck"), (BOX, 0.55, "person")))
    assert targets.labels.tolist() == [5, 0]


def test_facades_are_ignored_only_where_asked() -> None:
    facade = detections(((400.0, 0.0, 700.0, 300.0), 0.7, "train"))
    assert teacher_targets(facade).labels.tolist() == [5]
    assert teacher_targets(facade, facades=True).labels.tolist() == [IGNORE]


def test_hidden_rendered_objects_are_ignored() -> None:
    truth = detections((BOX, 1.0, "person"), (BOX, 1.0, "truck"), (BOX, 1.0, "dog"))
    targets = rendered_targets(truth, np.array([0.29, 0.31, 1.0], np.float32), MIN_SIDE_PX)
    assert targets.labels.tolist() == [IGNORE, 5]


def test_small_rendered_objects_are_ignored_in_validation_before_they_are_in_training() -> None:
    sides = (7, 8, 11, 12)
    truth = detections(*(((0, 0, 3, side), 1.0, "person") for side in sides))
    seen = np.ones(4, np.float32)
    assert rendered_targets(truth, seen, MIN_SIDE_PX).labels.tolist() == [IGNORE, 0, 0, 0]
    assert rendered_targets(truth, seen, VALIDATED_SIDE_PX).labels.tolist() == [IGNORE, IGNORE, IGNORE, 0]


def test_teacher_file_with_a_bad_row_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("frame,x1,y1,x2,y2,score,coco_class\n0,1,2,3,4,0.5,traffic_light\n1,1,2,x,4,0.5,car\n")
    with pytest.raises(UserError, match=r"clip\.csv.*row 3"):
        read_teacher(path)
    path.write_text("frame,x1,y1,x2,y2,score,coco_class\n7,1,2,3,4,0.5,traffic_light\n")
    assert read_teacher(path)[7].labels.tolist() == [9]


@pytest.mark.parametrize("name", ["drive_day", "market1906"])
def test_no_frame_is_in_both_parts(name: str) -> None:
    kept = list(range(0, 2000, 2))
    train, validation = split_frames(name, kept)
    assert max(train) < min(validation)
    assert set(train).isdisjoint(validation)
    assert set(train) | set(validation) <= set(kept)


def test_market_is_cut_at_forty_seconds_of_its_retimed_frames() -> None:
    kept = [3 * i for i in range(1000)]
    train, validation = split_frames("market1906", kept)
    # 40 s of 16 frames, and 16 frames on each side that belong to neither part.
    assert train[-1] == kept[623]
    assert validation[0] == kept[656]
