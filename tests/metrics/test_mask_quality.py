"""Quality of masks, by hand: masks that are halves and quarters of their boxes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitmalis.instance_masks import MASK_SIDE
from vitmalis.matching import Counts, MatchRule
from vitmalis.metrics import summarise
from vitmalis.metrics.mask_quality import boundary_f1_of_pairs, mask_iou_matrix, mask_metrics, match_masks
from vitmalis.records import FrameRecord, OffloadRecord, RecordsInfo, read_offloads, write_offloads
from vitmalis.types import Detections

HALF = MASK_SIDE // 2
BOX = [10.0, 20.0, 66.0, 76.0]  # two pixels of the frame a pixel of the mask
SIZE = (200, 100)  # whose boundaries match within 2 pixels


def mask(rows: slice = slice(None), cols: slice = slice(None)) -> NDArray[np.uint8]:
    """A mask of some rows and columns."""
    drawn = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    drawn[rows, cols] = 255
    return drawn


LEFT, TOP, ALL = mask(cols=slice(HALF)), mask(rows=slice(HALF)), mask()


def one(drawn: NDArray[np.uint8], box: list[float] = BOX, label: int = 0, score: float = 0.9) -> Detections:
    return Detections.of([box], [score], [label], drawn[None])


def test_iou_by_hand() -> None:
    """Of one box: the left half with itself, all, and the upper half; moved by a quarter; and another class."""
    reference = one(LEFT)
    for shown, expected in ((LEFT, 1.0), (ALL, 1 / 2), (TOP, 1 / 3)):
        assert mask_iou_matrix(one(shown), reference).tolist() == [[pytest.approx(expected)]]
    moved = [side + 14 * (place % 2 == 0) for place, side in enumerate(BOX)]
    assert mask_iou_matrix(one(LEFT, moved), reference)[0, 0] == pytest.approx(14 / 42)
    assert mask_iou_matrix(one(LEFT, label=2), reference).tolist() == [[0]]
    assert mask_iou_matrix(one(LEFT, [66, 20, 122, 76]), reference).tolist() == [[0]]


LEFT_OF_ALL = 2 * 117 / (168 + 224)
"""Boundary F1 of the left half and all of `BOX`: 168 and 224 pixels of outlines, each with 117 near the other."""


def test_boundary_f1_by_hand() -> None:
    """Of the left half with itself and with all, and of what is the same as far as the frame shows it."""
    pairs = one(LEFT).with_more(one(LEFT)).with_more(one(ALL, [-28, 20, 28, 76]))
    others = one(LEFT).with_more(one(ALL)).with_more(one(ALL, [0, 20, 28, 76]))
    assert boundary_f1_of_pairs(pairs, others, SIZE).tolist() == pytest.approx([1, LEFT_OF_ALL, 1])
    assert boundary_f1_of_pairs(Detections.empty(), Detections.empty(), SIZE).tolist() == []
    outside = one(ALL, [-50, 20, -10, 60])
    assert boundary_f1_of_pairs(outside, outside, SIZE).tolist() == [1]


def test_the_tolerance_of_a_boundary_scales_with_the_masks() -> None:
    """It is 36 pixels of the frame, and the masks are compared at a quarter of their size."""
    size, box = (4000, 2000), [500.0, 500.0, 1500.0, 1500.0]
    moved = [one(ALL, [side + by * (place % 2 == 0) for place, side in enumerate(box)]) for by in (30.0, 60.0)]
    near, far = (boundary_f1_of_pairs(one(ALL, box), each, size).item() for each in moved)
    assert near == 1
    assert far == pytest.approx(0.55, abs=0.05), "the upper and lower edges match, the others do not"


def test_masks_in_boxes_of_any_size_are_compared() -> None:
    """A frame-filling one at a lower size, and one without area."""
    large = [0.0, 0.0, 3840.0, 2160.0]
    assert mask_iou_matrix(one(LEFT, large), one(TOP, large))[0, 0] == pytest.approx(1 / 3, abs=0.01)
    assert mask_iou_matrix(one(ALL, [0, 0, 1e6, 1e6]), one(ALL, large))[0, 0] < 0.01
    assert mask_iou_matrix(one(ALL, [5, 5, 5, 9]), one(ALL, [5, 5, 5, 9])).tolist() == [[0]]


def test_masks_match_where_half_of_their_union_is_common() -> None:
    """As boxes do; the mean IoU is that of the pairs."""
    shown = one(LEFT).with_more(one(TOP, [110, 20, 166, 76])).with_more(one(ALL, score=0.4))
    reference = one(ALL).with_more(one(LEFT, [110, 20, 166, 76]))
    matched = match_masks(shown, reference, SIZE)
    assert matched.counts == Counts(tp=1, fp=1, fn=1)
    assert matched.mean_iou == pytest.approx(0.5)
    assert match_masks(shown, reference, SIZE, MatchRule(iou_threshold=0.3)).counts == Counts(tp=2)
    assert mask_metrics([(shown, reference), (one(ALL), one(ALL))], MatchRule(), SIZE, "rendering") == {
        "rendering_mask_f1": pytest.approx(2 / 3),
        "rendering_mask_iou": pytest.approx(0.75),
        "rendering_mask_boundary_f1": pytest.approx((LEFT_OF_ALL + 1) / 2),
    }


def test_a_box_without_a_mask_counts_as_filled() -> None:
    """A result may come from a model without masks, or show nothing."""
    assert match_masks(Detections.of([BOX], [0.9], [0]), one(ALL), SIZE).mean_iou == 1
    assert match_masks(Detections.empty(), one(ALL), SIZE).counts == Counts(fn=1)
    nothing = match_masks(Detections.empty(), one(ALL), SIZE)
    assert nothing.mean_iou is nothing.mean_boundary_f1 is None


def test_a_run_has_mask_metrics_where_its_references_have_masks(tmp_path: Path) -> None:
    """Box F1 is as without them; metrics of the records on disk are those of the records in memory."""
    frames = [
        FrameRecord(frame_index=i, capture_time_s=0.0, render_time_s=0.0, detections=shown)
        for i, shown in enumerate((Detections.empty(), one(LEFT)))
    ]
    three_quarters = one(mask(cols=slice(21))).with_more(one(ALL, score=0.1))
    offloads = [OffloadRecord(offload_id=0, frame_index=1, start_time_s=0.0, detections=three_quarters)]
    metrics = summarise(frames, offloads, [one(LEFT), one(LEFT)], frame_size=SIZE)
    assert metrics["rendering_f1"] == metrics["rendering_mask_f1"] == pytest.approx(2 / 3)
    assert (metrics["rendering_mask_iou"], metrics["inference_mask_iou"]) == (1, pytest.approx(2 / 3))
    assert metrics["rendering_mask_boundary_f1"] == 1
    assert 0 < metrics["inference_mask_boundary_f1"] < 1
    assert metrics["masks_kib_median"] == 392 / 1024, "a mask that fills its box behind the others is not sent"
    nothing = dataclasses.replace(offloads[0], offload_id=1, detections=three_quarters.above(1.0))
    write_offloads(tmp_path / "offloads.parquet", [*offloads, nothing], RecordsInfo(policy="", clip=""))
    for known in ([*offloads, nothing], read_offloads(tmp_path / "offloads.parquet")):
        assert summarise(frames, known, None)["masks_kib_median"] == 196 / 1024, "a result without objects adds nothing"
    boxes = summarise(frames, [], [Detections.of([BOX], [0.9], [0])] * 2, frame_size=SIZE)
    assert not [name for name in boxes if "mask" in name]
