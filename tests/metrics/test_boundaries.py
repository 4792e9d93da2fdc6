"""Boundary F1 of masks: squares whose outlines are counted by hand, and the definition written out for random masks."""

from __future__ import annotations

import numpy as np
import pytest

from vitmalis.metrics.boundaries import boundary_f1, boundary_tolerance_px
from vitmalis.types import BoolMask


def square(top: int, left: int, side: int = 4, shape: tuple[int, int] = (12, 24)) -> BoolMask:
    """A square object, whose outline has 4 * side pixels."""
    drawn = np.zeros(shape, bool)
    drawn[top : top + side, left : left + side] = True
    return drawn


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    """8 pixels on the videos of DAVIS, 854 x 480."""
    assert [boundary_tolerance_px(size) for size in ((854, 480), (300, 400), (1920, 1080))] == [8, 4, 18]


def test_outlines_match_within_the_tolerance() -> None:
    """Two squares one column apart have 8 of 16 pixels of their outlines in common, and all within one pixel."""
    one, other = square(4, 4), square(4, 5)
    assert boundary_f1(one, one, 0) == 1
    assert boundary_f1(one, other, 0) == 0.5
    assert boundary_f1(one, other, 1) == 1


def test_the_tolerance_is_a_distance_and_need_not_be_whole() -> None:
    columns = np.arange(20)
    one, other = (np.tile(columns < end, (9, 1)) for end in (5, 8))
    assert [boundary_f1(one, other, tolerance) for tolerance in (2.9, 3, 3.1)] == [0, 1, 1]


def test_an_object_that_is_missed_costs_recall_and_a_wrong_one_precision() -> None:
    one, both = square(4, 2), square(4, 2) | square(4, 18)
    assert boundary_f1(one, both, 2) == boundary_f1(both, one, 2) == pytest.approx(2 / 3)
    assert boundary_f1(one, square(4, 18), 2) == 0


def test_the_edge_of_the_image_is_no_outline() -> None:
    """An object that fills it has none, as no object has."""
    none, all_of_it = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    assert boundary_f1(none, none, 2) == boundary_f1(all_of_it, all_of_it, 2) == boundary_f1(none, all_of_it, 2) == 1
    assert boundary_f1(none, square(2, 2, shape=(8, 8)), 2) == boundary_f1(square(2, 2, shape=(8, 8)), none, 2) == 0
    assert boundary_f1(none[:0], all_of_it[:0], 2) == 1


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_have_the_boundary_f1_of_the_definition(seed: int) -> None:
    """With the outline as DAVIS' code makes it, and every distance between two pixels of it."""
    draws = np.random.default_rng(seed)
    masks = [draws.random((11, 17)) < share for share in (0.1, 0.9)]
    for tolerance in (0, 1, 1.5, 3):
        places = [np.argwhere(outline_of_davis(mask)) for mask in masks]
        near = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1) <= tolerance
        precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert boundary_f1(masks[0], masks[1], tolerance) == pytest.approx(expected)


def outline_of_davis(mask: BoolMask) -> BoolMask:
    """Where a mask differs from itself moved by a pixel, which at the last row or column is done along it only."""
    right, below, corner = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], below[:-1], corner[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    outline = (mask ^ right) | (mask ^ below) | (mask ^ corner)
    outline[-1], outline[:, -1], outline[-1, -1] = mask[-1] ^ right[-1], mask[:, -1] ^ below[:, -1], False
    return outline
