from __future__ import annotations

import pytest

from vitmalis.types import COCO_CLASSES, Detections
from vitmalis_jobs.training.detection.temporal_voting import vote_over_time

BOX = (100.0, 100.0, 150.0, 200.0)


def detections(*rows: tuple) -> Detections:
    """Rows (box, score, class name)."""
    return Detections.of(
        [box for box, _, _ in rows], [score for _, score, _ in rows], [COCO_CLASSES.index(name) for *_, name in rows]
    )


def test_neighbours_make_an_unsure_box_sure() -> None:
    sure, unsure = detections((BOX, 0.6, "person")), detections((BOX, 0.3, "person"))
    assert vote_over_time([sure, unsure, sure])[1].scores.tolist() == pytest.approx([0.4])
    assert vote_over_time([sure, unsure, unsure])[1].scores.tolist() == pytest.approx([0.3])


def test_a_box_that_no_neighbour_has_becomes_unsure() -> None:
    nothing = Detections.empty()
    flash = detections((BOX, 0.7, "person"))
    assert vote_over_time([nothing, nothing, flash, nothing])[2].scores.tolist() == pytest.approx([0.25])


def test_vehicles_take_the_class_of_the_majority_and_people_do_not() -> None:
    car, truck = detections((BOX, 0.5, "car")), detections((BOX, 0.6, "truck"))
    assert vote_over_time([car, car, truck, car, car])[2].labels.tolist() == [2]
    person, bicycle = detections((BOX, 0.5, "person")), detections((BOX, 0.6, "bicycle"))
    # The gap in the person's track is filled; the bicycle that no neighbour has stays a bicycle, but unsure.
    middle = vote_over_time([person, person, bicycle, person, person])[2]
    assert middle.labels.tolist() == [1, 0]
    assert middle.scores.tolist() == pytest.approx([0.25, 0.4])


def test_a_gap_of_one_frame_is_filled_half_way() -> None:
    before = detections(((0.0, 0.0, 100.0, 100.0), 0.6, "car"))
    after = detections(((20.0, 0.0, 120.0, 100.0), 0.6, "car"))
    filled = vote_over_time([before, Detections.empty(), after])[1]
    assert filled.boxes_xyxy.tolist() == [[10.0, 0.0, 110.0, 100.0]]
    assert filled.scores.tolist() == pytest.approx([0.4])
