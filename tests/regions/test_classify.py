"""Task relevance, region types and masks: by hand on a grid of 2 x 3 regions of 64 px, and as properties."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, MASK_THRESHOLD
from vitmalis.regions import (
    ModelGeometry,
    RegionGrid,
    RegionType,
    classify,
    downsample_mask,
    region_uncertainty,
    task_relevance,
)
from vitmalis.types import Detections

SBR, CMR, DOR = RegionType
GRID = RegionGrid(width_px=180, height_px=120, window=2)


def found(*boxes_xyxy: tuple[float, float, float, float]) -> Detections:
    return Detections.of(boxes_xyxy, [0.9] * len(boxes_xyxy), [0] * len(boxes_xyxy))


@pytest.mark.parametrize(
    ("boxes_xyxy", "expected"),
    [
        ([], [[0, 0, 0], [0, 0, 0]]),
        ([(10, 10, 20, 20)], [[1, 0, 0], [0, 0, 0]]),
        ([(10, 10, 64, 64)], [[1, 0, 0], [0, 0, 0]]),  # touches three other regions, overlaps none
        ([(10, 10, 64.5, 64)], [[1, 1, 0], [0, 0, 0]]),
        ([(60, 60, 70, 70)], [[1, 1, 0], [1, 1, 0]]),
        ([(170, 110, 400, 400)], [[0, 0, 0], [0, 0, 1]]),
        ([(181, 10, 190, 50)], [[0, 0, 0], [0, 0, 0]]),  # over the padding only
        ([(10, 10, 20, 20), (0, 0, 180, 120), (130, 0, 150, 10), (150, 0, 160, 10)],
         [[0.5, 0.25, 0.75], [0.25, 0.25, 0.25]]),
    ],
)  # fmt: skip
def test_relevance_by_hand(boxes_xyxy: list[tuple[float, float, float, float]], expected: list[list[float]]) -> None:
    assert task_relevance(GRID, found(*boxes_xyxy)).tolist() == expected


def test_uncertainty_lies_where_the_objects_do_by_hand() -> None:
    """A box in two regions, 3 to 1, and one that leaves the frame; what lies outside does not count."""
    boxes = Detections.of([(40, 0, 72, 50), (150, 100, 400, 400)], [0.8, 0.5], [0, 0])
    expected = [[0.2 * 0.75 / 2, 0.2 * 0.25 / 2, 0], [0, 0, 0.5 / 2]]
    np.testing.assert_allclose(region_uncertainty(GRID, boxes), expected, atol=1e-7)


@pytest.mark.parametrize("boxes", [Detections.empty(), Detections.of([(181, 10, 190, 50)], [0.5], [0])])
def test_there_is_no_uncertainty_without_objects_in_the_frame(boxes: Detections) -> None:
    assert not region_uncertainty(GRID, boxes).any()


def test_relevance_of_masks_by_hand() -> None:
    """A box over two rows and columns of regions whose mask is its left half, and an empty mask over all of them."""
    masks = np.zeros((2, MASK_SIDE, MASK_SIDE), np.uint8)
    masks[0, :, : MASK_SIDE // 2] = MASK_THRESHOLD
    masks[1] = MASK_THRESHOLD - 1
    boxes = found((0, 0, 128, 120), (0, 0, 180, 120))
    assert task_relevance(GRID, boxes).tolist() == [[1, 1, 0.5], [1, 1, 0.5]]
    assert task_relevance(GRID, replace(boxes, masks=masks)).tolist() == [[0.5, 0, 0], [0.5, 0, 0]]


def test_masks_that_fill_their_boxes_are_as_relevant_as_these() -> None:
    """Also beyond the frame and in boxes smaller than a pixel of the mask."""
    corners = np.random.default_rng(0).uniform(-50, 250, (50, 2, 2))
    boxes = found(*np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).tolist())
    filled = replace(boxes, masks=boxes.masks_or_boxes)
    np.testing.assert_array_equal(task_relevance(GRID, filled), task_relevance(GRID, boxes))


def test_types_by_hand() -> None:
    """The thresholds themselves are not below and not above; motion is asked first."""
    motion = np.array([[0, 0.0009, 0.0], [0.001, 0.5, 0.5]])
    relevance = np.array([[0, 0, 0.5], [0, 0.25, 0]])
    types = classify(motion, relevance)
    assert types.dtype == np.int8
    assert types.tolist() == [[SBR, SBR, SBR], [CMR, DOR, CMR]]
    assert classify(motion, relevance, motion_threshold=0.6).tolist() == [[SBR] * 3] * 2
    assert classify(motion, relevance, motion_threshold=0, relevance_threshold=0.25).tolist() == [
        [CMR, CMR, DOR],
        [CMR, CMR, CMR],
    ]


def test_masks_by_hand() -> None:
    types = np.array([[SBR, CMR, DOR]], np.int8)
    assert downsample_mask(types, 0).tolist() == [[False, False, False]]
    assert downsample_mask(types, 1).tolist() == [[False, True, False]]
    assert downsample_mask(types, 2).tolist() == [[True, True, False]]
    with pytest.raises(UserError, match="tau_d must be one of 0, 1, 2, not 3"):
        downsample_mask(types, 3)


@given(arrays.arrays(np.int8, (4, 6), elements=st.sampled_from([int(t) for t in RegionType])))
def test_masks_are_nested_and_never_hold_an_object(types: np.ndarray) -> None:
    none, some, most = (downsample_mask(types, tau_d) for tau_d in (0, 1, 2))
    assert not none.any()
    assert (some <= most).all()
    assert np.array_equal(most, types != DOR)
    assert most.dtype == np.bool_


coordinate = st.floats(-50, 250, width=32)


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=8))
def test_relevance_is_what_pixels_would_say(corners: list[tuple[float, float, float, float]]) -> None:
    """Boxes on whole pixels: paint each into the frame and look which regions have any of it."""
    whole = np.round(np.array(corners, float).reshape(-1, 2, 2))
    boxes = np.concatenate([whole.min(axis=1), whole.max(axis=1)], axis=1)
    expected = np.zeros(GRID.shape)
    for x0, y0, x1, y1 in boxes:
        painted = np.zeros((GRID.height_px, GRID.width_px), bool)
        painted[max(int(y0), 0) : max(int(y1), 0), max(int(x0), 0) : max(int(x1), 0)] = True
        for (row, col), _ in np.ndenumerate(expected):
            left, top, right, bottom = GRID.region_boxes_px[row, col]
            expected[row, col] += painted[top:bottom, left:right].any() / len(boxes)
    assert task_relevance(GRID, found(*boxes.tolist())) == pytest.approx(expected)


def test_a_models_geometry_lays_out_the_paper_s_regions() -> None:
    grid = ModelGeometry(window=9, factor=2, patch_px=16, restoration_points=4).grid(1920, 1080)
    assert (grid.side_px, grid.shape) == (288, (4, 7))


def test_regions_come_without_torch() -> None:
    """The client's process imports them."""
    code = "import sys, vitmalis.regions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
