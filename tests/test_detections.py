"""Detections: every operation on the rows carries their masks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from vitmalis.client.kept_missed import with_missed
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.types import Detections

MASKS = np.stack([np.full((MASK_SIDE, MASK_SIDE), value, np.uint8) for value in (10, 20, 30)])
MASKED = Detections.of([[0, 0, 10, 10], [20, 0, 30, 20], [40, 0, 50, 10]], [0.9, 0.4, 0.7], [0, 1, 2], MASKS)
BOXES = Detections.of([[0, 0, 4, 4]], [0.8], [5])


def first_values(detections: Detections) -> list[int]:
    """The first value of each mask."""
    assert detections.masks is not None
    return detections.masks[:, 0, 0].tolist()


def test_rows_are_selected_with_their_masks() -> None:
    """By a bool mask, by indices and by score."""
    assert first_values(MASKED.select(np.array([2, 0]))) == [30, 10]
    assert first_values(MASKED.select(np.array([False, True, True]))) == [20, 30]
    assert first_values(MASKED.above(0.5)) == [10, 30]
    assert BOXES.select(np.array([0])).masks is None


def test_masks_move_and_scale_with_their_boxes() -> None:
    """They are given in their boxes, so that they stay as they are."""
    moved = MASKED.at(MASKED.boxes_xyxy + 5)
    assert moved.boxes_xyxy.tolist()[0] == [5, 5, 15, 15]
    assert first_values(moved) == first_values(MASKED.scaled(2, 3)) == [10, 20, 30]


def test_a_box_without_a_mask_is_filled_next_to_boxes_with_masks() -> None:
    """A result may be without objects and masks, and one before it have some."""
    assert first_values(MASKED.with_more(BOXES)) == [10, 20, 30, 255]
    assert first_values(Detections.empty().with_more(MASKED)) == [10, 20, 30]
    assert BOXES.with_more(BOXES).masks is None


def test_a_kept_object_keeps_its_mask() -> None:
    """A result misses two objects of the one before, of which one is good enough."""
    kept = with_missed(MASKED.select(np.array([0])), MASKED, 0.5)
    assert first_values(kept) == [10, 30]
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5])


def test_masks_survive_pickling() -> None:
    """Detections pass between processes."""
    assert first_values(pickle.loads(pickle.dumps(MASKED))) == [10, 20, 30]


@pytest.mark.parametrize("masks", [MASKS[:2], MASKS[:, :14], MASKS.astype(np.float32)])
def test_masks_of_another_shape_or_type_are_refused(masks: np.ndarray) -> None:
    """One for each box, of the agreed size, quantised."""
    with pytest.raises(ValueError, match=r"must be \(3, 28, 28\) of uint8"):
        Detections(MASKED.boxes_xyxy, MASKED.scores, MASKED.labels, masks)
