"""IDF1, identity switches and MOTA of boxes on the screen, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.types import Detections
from vitmalis_jobs.run.identity import MEMORY_FRAMES, identity_metrics, linked

EMPTY = Detections.empty()


def boxes(*lefts: float, label: int = 0) -> Detections:
    """Boxes of 100 x 50 px that begin at these places."""
    return Detections.of([[x, 0, x + 100, 50] for x in lefts], [0.9] * len(lefts), [label] * len(lefts))


def ids(frames: list[Detections]) -> list[list[int]]:
    return [own.tolist() for own in linked(frames)]


def test_a_box_is_the_object_that_it_overlaps_and_another_after_a_jump() -> None:
    assert ids([boxes(0, 300), boxes(310, 10), boxes(20, 500)]) == [[0, 1], [1, 0], [0, 2]]
    assert ids([boxes(0), boxes(0, label=2)]) == [[0], [1]], "another class is another object"


def test_an_object_that_is_not_seen_for_a_moment_stays_the_same() -> None:
    assert ids([boxes(0), *[EMPTY] * (MEMORY_FRAMES - 1), boxes(0)])[-1] == [0]
    assert ids([boxes(0), *[EMPTY] * MEMORY_FRAMES, boxes(0)])[-1] == [1]


def test_what_is_shown_right_has_all_identities() -> None:
    moving = [boxes(5 * i, 400 - 5 * i) for i in range(10)]
    assert identity_metrics(moving, moving) == {"idf1": 1.0, "id_switches": 0.0, "mota": 1.0}


def test_a_jump_is_a_switch_and_halves_the_identity() -> None:
    """An object that stands still is shown in two places that both overlap it enough, but not each other."""
    references = [boxes(0)] * 10
    shown = [boxes(-30)] * 6 + [boxes(30)] * 4  # IoU 70/130 = 0.54 with the object; 40/160 with each other
    found = identity_metrics(shown, references)
    assert found["id_switches"] == 1
    assert found["idf1"] == pytest.approx(2 * 6 / 20), "one track may have the object: the one of six frames"
    assert found["mota"] == pytest.approx(1 - 1 / 10)


def test_frames_without_boxes_are_misses() -> None:
    found = identity_metrics([EMPTY] * 4 + [boxes(0)] * 6, [boxes(0)] * 10)
    assert found == {"idf1": pytest.approx(2 * 6 / 16), "id_switches": 0.0, "mota": pytest.approx(0.6)}


def test_a_match_is_kept_while_it_overlaps_enough() -> None:
    """A second box that overlaps the object more does not take it over, as in CLEAR MOT."""
    found = identity_metrics([boxes(20)] * 3 + [boxes(20, 5)] * 3, [boxes(0)] * 6)
    assert found["id_switches"] == 0
    assert found["mota"] == pytest.approx(1 - 3 / 6), "three boxes too many"


def test_boxes_below_the_score_do_not_count_and_nothing_says_nothing() -> None:
    low = Detections.of([[0, 0, 9, 9]], [0.4], [0])
    assert identity_metrics([boxes(0)], [low]) == {}
    assert np.isclose(identity_metrics([low], [boxes(0)])["mota"], 0.0)
