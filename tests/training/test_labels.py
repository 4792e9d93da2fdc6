import numpy as np
import pytest

from vitmalis.detector import preset
from vitmalis.errors import UserError
from vitmalis.types import COCO_CLASSES, Detections
from vitmalis_jobs.training.detection.clips import split_frames
from vitmalis_jobs.training.detection.labels import (
    CLASSES,
    IGNORE,
    learned_class,
    read_teacher,
    rendered_targets,
    teacher_targets,
)
from vitmalis_jobs.training.detection.temporal_voting import steady

BOX = (100.0, 100.0, 150.0, 200.0)


def detections(*rows: tuple) -> Detections:
    """Rows (box, score, class name)."""
    return Detections.of(
        [box for box, _, _ in rows], [score for _, score, _ in rows], [COCO_CLASSES.index(name) for *_, name in rows]
    )


@pytest.mark.parametrize(
    ("name", "learned"),
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
def test_classes_are_learned_as(name: str, learned: str) -> None:
    assert learned_class(COCO_CLASSES.index(name)) == COCO_CLASSES.index(learned)


def test_motorcycles_are_ignored_and_dogs_are_background() -> None:
    assert learned_class(COCO_CLASSES.index("motorcycle")) == IGNORE
    assert learned_class(COCO_CLASSES.index("dog")) is None


def test_learned_classes_are_the_models() -> None:
    assert preset("vitdet_tiny").classes == CLASSES


def test_scores_decide_between_object_ignored_and_nothing() -> None:
    far = tuple(value + 300 for value in BOX)
    further = tuple(value + 600 for value in BOX)
    targets = teacher_targets(detections((BOX, 0.4, "person"), (far, 0.39, "person"), (further, 0.24, "person")))
    assert targets.labels.tolist() == [0, IGNORE]
    assert targets.boxes_xyxy.tolist() == [list(BOX), list(far)]


def test_a_vehicle_named_twice_is_learned_once_under_its_surest_name() -> None:
    targets = teacher_targets(detections((BOX, 0.5, "car"), (BOX, 0.6, "truck"), (BOX, 0.55, "person")))
    assert targets.labels.tolist() == [5, 0]


def test_facades_are_ignored_only_where_asked() -> None:
    facade = detections(((400.0, 0.0, 700.0, 300.0), 0.7, "train"))
    assert teacher_targets(facade).labels.tolist() == [5]
    assert teacher_targets(facade, facades=True).labels.tolist() == [IGNORE]


def test_hidden_rendered_objects_are_ignored() -> None:
    truth = detections((BOX, 1.0, "person"), (BOX, 1.0, "truck"), (BOX, 1.0, "dog"))
    targets = rendered_targets(truth, np.array([0.29, 0.31, 1.0], np.float32))
    assert targets.labels.tolist() == [IGNORE, 5]


def test_teacher_file_with_a_bad_row_names_file_and_row(tmp_path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("frame,x1,y1,x2,y2,score,coco_class\n0,1,2,3,4,0.5,traffic_light\n1,1,2,x,4,0.5,car\n")
    with pytest.raises(UserError, match=r"clip\.csv.*row 3"):
        read_teacher(path)
    path.write_text("frame,x1,y1,x2,y2,score,coco_class\n7,1,2,3,4,0.5,traffic_light\n")
    assert read_teacher(path)[7].labels.tolist() == [9]


@pytest.mark.parametrize("name", ["drive_day", "market1906"])
def test_no_held_out_frame_is_learned(name: str) -> None:
    kept = list(range(0, 2000, 2))
    train, held_out = split_frames(name, kept)
    assert max(train) < min(held_out)
    assert set(train).isdisjoint(held_out)
    assert set(train) | set(held_out) <= set(kept)


def test_market_is_cut_at_forty_seconds_of_its_retimed_frames() -> None:
    kept = [3 * i for i in range(1000)]
    train, held_out = split_frames("market1906", kept)
    # 40 s of 16 frames, and 16 frames on each side that belong to neither part.
    assert train[-1] == kept[623]
    assert held_out[0] == kept[656]


def test_neighbours_make_an_unsure_box_sure() -> None:
    sure, unsure = detections((BOX, 0.6, "person")), detections((BOX, 0.3, "person"))
    assert steady([sure, unsure, sure])[1].scores.tolist() == pytest.approx([0.4])
    assert steady([sure, unsure, unsure])[1].scores.tolist() == pytest.approx([0.3])


def test_a_box_that_no_neighbour_saw_is_doubted() -> None:
    nothing = Detections.empty()
    flash = detections((BOX, 0.7, "person"))
    assert steady([nothing, nothing, flash, nothing])[2].scores.tolist() == pytest.approx([0.25])


def test_vehicles_take_the_class_of_the_majority_and_people_do_not() -> None:
    car, truck = detections((BOX, 0.5, "car")), detections((BOX, 0.6, "truck"))
    assert steady([car, car, truck, car, car])[2].labels.tolist() == [2]
    person, bicycle = detections((BOX, 0.5, "person")), detections((BOX, 0.6, "bicycle"))
    # The gap in the person's track is filled; the bicycle that no neighbour saw stays one, in doubt.
    middle = steady([person, person, bicycle, person, person])[2]
    assert middle.labels.tolist() == [1, 0]
    assert middle.scores.tolist() == pytest.approx([0.25, 0.4])


def test_a_gap_of_one_frame_is_filled_half_way() -> None:
    before = detections(((0.0, 0.0, 100.0, 100.0), 0.6, "car"))
    after = detections(((20.0, 0.0, 120.0, 100.0), 0.6, "car"))
    filled = steady([before, Detections.empty(), after])[1]
    assert filled.boxes_xyxy.tolist() == [[10.0, 0.0, 110.0, 100.0]]
    assert filled.scores.tolist() == pytest.approx([0.4])
