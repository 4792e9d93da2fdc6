"""Offloads in flight, and objects that a result misses, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.client.events import StartOffload
from vitmalis.client.in_flight import OffloadsInFlight, SentOffload
from vitmalis.client.kept_missed import with_missed
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.types import Configuration, Detections, Frame


def sent(number: int, started_s: float) -> SentOffload:
    frame = Frame(10 * number, number, np.zeros((8, 16, 3), np.uint8))
    start = StartOffload(number, frame, OffloadDecision(Configuration()))
    return SentOffload(start, started_s, Detections.empty(), -1)


def outcome(
    encode_s: float, transfer_s: float, decode_s: float, inference_s: float, queue_s: float = 0.0
) -> OffloadOutcome:
    decision = OffloadDecision(Configuration())
    return OffloadOutcome(0, decision, 1000, encode_s, decode_s, inference_s, transfer_s, 0.04, 0.5, queue_s)


def test_one_in_flight_waits_for_its_answer() -> None:
    offloads = OffloadsInFlight(1)
    offloads.learn(outcome(0.01, 0.1, 0.01, 0.2))
    assert offloads.may_start(0.0)
    offloads.start(sent(0, 0.0))
    assert not offloads.may_start(9.0)
    assert offloads.end(0) is not None
    assert offloads.may_start(9.0)


@pytest.mark.parametrize(
    ("stages", "pace_s"),
    [((0.02, 0.1, 0.01, 0.25), 0.26), ((0.02, 0.4, 0.01, 0.25), 0.42), ((0.02, 0.1, 0.01, 0.25, 0.2), 0.46)],
    ids=["server is slower", "link is slower", "server has other clients"],
)
def test_a_second_one_follows_at_the_pace_of_the_slower_of_link_and_server(
    stages: tuple[float, ...], pace_s: float
) -> None:
    offloads = OffloadsInFlight(2)
    offloads.start(sent(0, 1.0))
    assert not offloads.may_start(9.0), "no result yet says how long anything takes"
    offloads.learn(outcome(*stages))
    assert not offloads.may_start(1.0 + pace_s - 0.01)
    assert offloads.may_start(1.0 + pace_s + 0.01)
    offloads.start(sent(1, 1.5))
    assert not offloads.may_start(9.0), "two are the most"
    assert (offloads.ids, offloads.frames) == ([0, 1], [0, 10])
    assert offloads.end(1) is not None, "answers need not come in order"
    assert (offloads.ids, offloads.end(1)) == ([0], None)


def test_the_oldest_decides_what_is_overdue() -> None:
    offloads = OffloadsInFlight(2)
    assert not offloads.overdue(9.0, 1.0)
    offloads.start(sent(0, 0.0))
    offloads.start(sent(1, 0.9))
    assert not offloads.overdue(1.0, 1.0)
    assert offloads.overdue(1.1, 1.0)


LEFT, RIGHT = [0, 0, 10, 10], [50, 0, 60, 10]


def test_a_missed_object_stays_for_one_result() -> None:
    known = Detections.of([LEFT, RIGHT], [0.9, 0.8], [0, 2])
    found = Detections.of([[1, 0, 11, 10]], [0.7], [0])
    once = with_missed(found, known, 0.5)
    assert once.boxes_xyxy.tolist() == [[1, 0, 11, 10], RIGHT]
    assert once.scores.tolist() == pytest.approx([0.7, 0.5])
    assert once.labels.tolist() == [0, 2]
    assert len(once.above(0.5)) == 2, "it is shown"
    again = with_missed(found, once, 0.5)
    assert again.boxes_xyxy.tolist() == found.boxes_xyxy.tolist(), "two results in a row missed it"


def test_an_object_of_another_class_does_not_stand_for_a_missed_one() -> None:
    known, found = Detections.of([LEFT], [0.9], [0]), Detections.of([LEFT], [0.9], [2])
    assert with_missed(found, known, 0.5).labels.tolist() == [2, 0]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7])
def test_kept_objects_are_shown_and_not_kept_again_at_any_threshold(threshold: float) -> None:
    kept = with_missed(Detections.empty(), Detections.of([LEFT], [0.9], [0]), threshold)
    assert len(kept.above(threshold)) == 1
    assert not len(with_missed(Detections.empty(), kept, threshold))
    assert kept.scores.dtype == np.float32
