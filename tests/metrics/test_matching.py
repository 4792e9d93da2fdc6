from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.matching import iou_matrix
from vitmalis.metrics import Counts, MatchRule, match, match_boxes
from vitmalis.types import Detections

BOX = [0.0, 0.0, 10.0, 10.0]


@st.composite
def detections(draw: st.DrawFn, labels: int = 3) -> Detections:
    n = draw(st.integers(0, 8))
    number = st.floats(0, 100, width=32)
    size = st.floats(1, 60, width=32)
    corners = [(draw(number), draw(number), draw(size), draw(size)) for _ in range(n)]
    scores = [draw(st.floats(0, 1, width=32)) for _ in range(n)]
    return Detections.of(
        [(x, y, x + w, y + h) for x, y, w, h in corners], scores, [draw(st.integers(0, labels - 1)) for _ in range(n)]
    )


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou_matrix(a, b), [[1, 50 / 150, 0, 4 / 100, 0]])


def test_a_box_is_found_at_exactly_the_threshold() -> None:
    half = Detections.of([[0, 0, 10, 5]], [0.5], [0])  # IoU 50 / 100
    assert match(half, Detections.of([BOX], [0.5], [0])) == Counts(tp=1)
    assert match(half, Detections.of([BOX], [0.5], [0]), MatchRule(iou_threshold=0.51)) == Counts(fp=1, fn=1)


def test_another_label_is_no_match() -> None:
    assert match(Detections.of([BOX], [0.9], [0]), Detections.of([BOX], [0.9], [2])) == Counts(fp=1, fn=1)


def test_low_scores_are_ignored_on_both_sides() -> None:
    low = Detections.of([BOX], [0.49], [0])
    assert match(low, low) == Counts()
    assert match(low, low, MatchRule(score_threshold=0.4)) == Counts(tp=1)


def test_a_second_box_on_the_same_object_is_in_vain() -> None:
    twice = Detections.of([BOX, BOX], [0.9, 0.8], [0, 0])
    assert match(twice, Detections.of([BOX], [0.9], [0])) == Counts(tp=1, fp=1)


def test_the_surer_box_chooses_first() -> None:
    # The surer shown box overlaps the left object more and takes it, though the other could match nothing else.
    reference = Detections.of([[0, 0, 10, 10], [4, 0, 14, 10]], [0.9, 0.9], [0, 0])
    shown = Detections.of([[-3, 0, 7, 10], [1, 0, 11, 10]], [0.6, 0.95], [0, 0])
    # IoUs: second box: left 90/110, right 70/130 = 0.54; first box: left 70/130, right 30/170.
    assert match(shown, reference) == Counts(tp=1, fp=1, fn=1)
    pairs = match_boxes(shown, reference)
    assert pairs.found.tolist() == [-1, 0]
    assert pairs.missed.tolist() == [False, True]


def test_ratios_by_hand() -> None:
    counts = Counts(tp=6, fp=2, fn=4)
    assert counts.precision == pytest.approx(0.75)
    assert counts.recall == pytest.approx(0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert Counts(fn=3).f1 == Counts(fn=3).f1_or_one == 0.0
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)


def test_shares_of_nothing_have_no_value() -> None:
    nothing, only_false = Counts(), Counts(fp=2)
    assert nothing.precision is nothing.recall is nothing.f1 is None
    assert nothing.f1_or_one == 1.0
    assert (only_false.precision, only_false.recall, only_false.f1, only_false.f1_or_one) == (0.0, None, None, 0.0)
    assert Counts(fn=2).precision is None


@given(detections())
def test_a_set_matches_itself(boxes: Detections) -> None:
    counts = match(boxes, boxes)
    assert counts == Counts(tp=len(boxes.above(0.5)))
    assert counts.f1_or_one == 1.0


@given(detections(), detections())
def test_every_sure_box_is_counted_once(shown: Detections, reference: Detections) -> None:
    counts = match(shown, reference)
    assert counts.tp + counts.fp == len(shown.above(0.5))
    assert counts.tp + counts.fn == len(reference.above(0.5))
    assert 0.0 <= counts.f1_or_one <= 1.0
    if counts.precision is not None and counts.recall is not None and counts.f1 is not None:
        low, high = sorted((counts.precision, counts.recall))
        assert low <= counts.f1 + 1e-12 <= high + 2e-12


@given(detections(), detections())
def test_without_rivals_the_sides_may_be_swapped(shown: Detections, reference: Detections) -> None:
    """With several boxes of one label greed is not symmetric; with one each it must be."""
    _, a = np.unique(shown.labels, return_index=True)
    _, b = np.unique(reference.labels, return_index=True)
    forth, back = match(shown.select(a), reference.select(b)), match(reference.select(b), shown.select(a))
    assert (forth.tp, forth.fp, forth.fn) == (back.tp, back.fn, back.fp)
    assert forth.f1_or_one == back.f1_or_one


@given(detections(), detections(), st.randoms(use_true_random=False))
def test_the_order_of_the_references_is_no_matter(shown: Detections, reference: Detections, random: object) -> None:
    order = np.arange(len(reference))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = match(shown, reference.select(order))
    assert shuffled.f1_or_one == pytest.approx(match(shown, reference).f1_or_one)
