"""Server-driven feedback by hand: which boxes are uncertain, and which regions the server asks back."""

from __future__ import annotations

import numpy as np

from tests.server.blob_server import GEOMETRY
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.feedback import UncertainScores
from vitmalis.server.feedback import asked_regions, regions_at, uncertain_boxes
from vitmalis.types import Configuration, Detections

GRID = GEOMETRY.grid(960, 540)
"""4 x 6 regions of 160 pixels."""


def found(*rows: tuple[list[float], float]) -> Detections:
    return Detections.of([box for box, _ in rows], [score for _, score in rows], [0] * len(rows))


def test_boxes_between_the_scores_are_uncertain_and_those_at_a_confident_one_are_not() -> None:
    boxes = found(
        ([0, 0, 100, 100], 0.9),
        ([0, 0, 100, 90], 0.3),  # IoU 0.9 with the first
        ([80, 0, 180, 100], 0.3),  # IoU 20 / 180
        ([300, 0, 400, 100], 0.2),
        ([500, 0, 600, 100], 0.19),
        ([700, 0, 800, 100], 0.5),
    )
    uncertain = uncertain_boxes(boxes, 0.2, 0.5)
    assert uncertain.boxes_xyxy.tolist() == [[80, 0, 180, 100], [300, 0, 400, 100]]


def test_without_a_confident_box_or_without_any_nothing_is_overlapped() -> None:
    assert len(uncertain_boxes(found(([0, 0, 9, 9], 0.3)), 0.2, 0.5)) == 1
    assert len(uncertain_boxes(Detections.empty(), 0.2, 0.5)) == 0


def test_regions_are_those_that_a_box_overlaps() -> None:
    assert not regions_at(Detections.empty(), GRID).any()
    at = regions_at(found(([150, 10, 170, 20], 0.3), ([800, 480, 960, 540], 0.3)), GRID)
    assert np.argwhere(at).tolist() == [[0, 0], [0, 1], [3, 5]]
    assert np.argwhere(regions_at(found(([160, 160, 320, 320], 0.3)), GRID)).tolist() == [[1, 1]]


def test_only_an_offload_that_requests_feedback_gets_it() -> None:
    offload = m.Offload.of(0, 0, (960, 540), Configuration(), window_size=5, downsampling_factor=2)
    asking = m.Offload.of(
        0, 0, (960, 540), Configuration(), window_size=5, downsampling_factor=2, feedback=UncertainScores(0.2, 0.5)
    )
    boxes = found(([10, 10, 20, 20], 0.3))
    assert asked_regions(offload, boxes, GEOMETRY) is None
    mask = asked_regions(asking, boxes, GEOMETRY)
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[0, 0]]
