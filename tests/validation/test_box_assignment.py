"""Pairing of two models' boxes: which belong together, how far they differ, and which unpaired ones ties excuse."""

import numpy as np
import pytest

from vitmalis_jobs.validation.parity.box_assignment import Boxes, pair

BOXES = np.array([[0, 0, 100, 100], [200, 0, 300, 100], [0, 200, 100, 300]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7], np.float32)
CLASSES = np.array([0, 1, 0])
TOLERANCES = {"boxes_px": 1e-2, "scores": 1e-4}


def test_order_does_not_matter_but_classes_do() -> None:
    golden = Boxes(BOXES, SCORES, CLASSES)
    turned = pair(golden, Boxes(BOXES[::-1], SCORES[::-1], CLASSES[::-1]), TOLERANCES, nms_iou=0.5)
    assert turned["passed"]
    assert turned["pairs"] == 3
    assert turned["error_px"] == 0
    wrong = pair(golden, Boxes(BOXES, SCORES, np.array([0, 0, 0])), TOLERANCES, nms_iou=0.5)
    assert not wrong["passed"]
    assert (wrong["pairs"], wrong["unpaired_golden"], wrong["unpaired_ours"]) == (2, 1, 1)


def test_a_box_is_paired_once() -> None:
    twice = Boxes(BOXES[[0, 0, 2]], SCORES[[0, 0, 2]], CLASSES[[0, 0, 2]])
    result = pair(twice, Boxes(BOXES, SCORES, CLASSES), TOLERANCES, nms_iou=0.5)
    assert result["unpaired_golden"] == 1
    assert not result["passed"]


def test_errors_above_the_tolerance_are_reported_and_fail() -> None:
    moved = BOXES.copy()
    moved[1, 2] += 0.02
    result = pair(Boxes(BOXES, SCORES), Boxes(moved, SCORES), TOLERANCES, nms_iou=0.5)
    assert result["error_px"] == pytest.approx(0.02, rel=1e-3)
    assert not result["passed"]
    lesser = pair(Boxes(BOXES, SCORES), Boxes(BOXES, SCORES - np.float32(2e-4)), TOLERANCES, nms_iou=0.5)
    assert not lesser["passed"]
    assert lesser["scores_above_plain_tolerance"] == 3
    noisy = pair(
        Boxes(BOXES, SCORES), Boxes(BOXES, SCORES - np.float32(2e-4)), TOLERANCES, nms_iou=0.5, score_noise=2e-4
    )
    assert noisy["passed"]


def test_only_ties_excuse_an_unpaired_box() -> None:
    """A box that overlaps another by exactly the threshold, as half its width, may be there or not."""
    tie = np.array([[0, 0, 50, 100]], np.float32)  # half of the first box
    with_tie = Boxes(np.concatenate([BOXES, tie]), np.array([0.9, 0.8, 0.7, 0.75], np.float32))
    tied = pair(with_tie, Boxes(BOXES, SCORES), TOLERANCES, nms_iou=0.5)
    assert tied["passed"]
    assert (tied["unpaired_golden"], tied["unpaired_by_ties"]) == (1, 1)
    assert not pair(with_tie, Boxes(BOXES, SCORES), TOLERANCES, nms_iou=0.6)["passed"]


def test_shifted_boxes_do_not_excuse_each_other() -> None:
    shifted = pair(Boxes(BOXES, SCORES), Boxes(BOXES + 3, SCORES + np.float32(0.01)), TOLERANCES, nms_iou=0.5)
    assert not shifted["passed"]
    assert shifted["unpaired_golden"] == 3
