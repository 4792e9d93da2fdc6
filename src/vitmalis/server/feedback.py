"""Server-driven feedback (DDS, Du et al., SIGCOMM 2020): the regions of a frame that the server asks back."""

from __future__ import annotations

import numpy as np
from msgspec import UNSET

from vitmalis.matching import iou_matrix
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.types import BoolMask, Detections

MAX_OVERLAP = 0.3
"""Largest IoU of an uncertain box with a confident one: beyond it both are taken for one object, which is known."""


def asked_regions(offload: Offload, found: Detections, geometry: ModelGeometry) -> BoolMask | None:
    """Regions that the server asks back, bool (rows, cols); None for an offload that requests no feedback.

    Args:
        offload: header of the offload.
        found: what was detected, in pixels of its frame.
        geometry: of the model.
    """
    scores = offload.feedback
    if scores is UNSET:
        return None
    grid = geometry.grid(offload.width, offload.height)
    return regions_at(uncertain_boxes(found, scores.low, scores.high), grid)


def uncertain_boxes(found: Detections, low_score: float, high_score: float) -> Detections:
    """The boxes with scores from `low_score` to below `high_score` that are away from all with higher scores."""
    confident = found.above(high_score)
    uncertain = found.select((found.scores >= low_score) & (found.scores < high_score))
    overlaps = iou_matrix(uncertain.boxes_xyxy, confident.boxes_xyxy)
    return uncertain.select(np.all(overlaps <= MAX_OVERLAP, axis=1))


def regions_at(found: Detections, grid: RegionGrid) -> BoolMask:
    """The regions that boxes overlap: bool (rows, cols)."""
    regions, boxes = grid.region_boxes_px[:, :, None], found.boxes_xyxy
    starts_before_end = (boxes[:, :2] < regions[..., 2:]) & (regions[..., :2] < boxes[:, 2:])
    return np.asarray(starts_before_end.all(axis=-1).any(axis=-1))
