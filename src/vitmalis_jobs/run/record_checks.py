"""Checks that records are of a run over a clip, before anything is computed or drawn from those of another machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitmalis.errors import UserError
from vitmalis.explanation import REGION_COLUMNS, DecisionExplanation
from vitmalis.regions import ModelGeometry, RegionType
from vitmalis.types import COCO_CLASSES, BoxSource, Detections, OffloadStatus
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.run.records import RunRecords

MAX_PX = 1e6
"""Larger coordinates of boxes than any frame has, in and around which boxes are drawn."""
MAX_VALUE = 1e12
"""Larger times, sizes and rates than any run has."""
MAX_REASON = 40
"""Most characters of a reason, which a policy may have of its own."""

_CANDIDATE_COLUMNS = ("tau_d", "quality", "restoration_point", "payload_bytes", "e2e_latency_s", "f1")


def check_records(folder: Path, records: RunRecords, clip: VideoSpec, geometry: ModelGeometry) -> None:
    """Check that every row fits the clip, the model's regions and the other rows; the last rows may be missing.

    Args:
        folder: that the records come from, for the error.
        records: of a run.
        clip: that was played.
        geometry: of the model's decision regions.

    Raises:
        UserError: a row is of a frame or an offload that there is not, or has values that no run has.
    """
    regions = geometry.grid(clip.width, clip.height).shape
    own_regions = f"the {regions[0]} x {regions[1]} of the clip"
    offloads = {offload.offload_id for offload in records.offloads}
    problem = ""
    if [frame.frame_index for frame in records.frames] != list(range(len(records.frames))):
        problem = "skip or repeat frames"
    elif not all(-1 <= index < clip.frames for index in _frame_indices(records)):
        problem = f"are not of the {clip.frames} frames of the clip"
    elif not offloads.issuperset(decision.offload_id for decision in records.decisions):
        problem = "explain decisions of offloads that they do not have"
    elif not all(map(_is_plausible, _detections(records))):
        problem = "hold boxes that no detector returns"
    elif not all(_explains(decision.explanation, regions) for decision in records.decisions):
        problem = f"explain decisions over other candidates or regions than {own_regions}"
    elif not all(len(offload.region_map) in (0, regions[0] * regions[1]) for offload in records.offloads):
        problem = f"map other regions than {own_regions}"
    elif not all(offload.second_round_of in {-1, *offloads} for offload in records.offloads):
        problem = "hold second rounds of offloads that they do not have"
    elif not all(_has_plausible_values(row) for row in (*records.frames, *records.offloads)):
        problem = "hold values that no run has"
    if problem:
        raise UserError(f"'{folder}': the records {problem}: play it again")


def _frame_indices(records: RunRecords) -> Iterator[int]:
    """Every frame that a row mentions; -1 stands for none."""
    for frame in records.frames:
        yield from (frame.frame_index, frame.result_frame_index, frame.shown_frame_index)
    yield from (offload.frame_index for offload in records.offloads)
    yield from (decision.frame_index for decision in records.decisions)


def _detections(records: RunRecords) -> Iterator[Detections]:
    yield from (frame.detections for frame in records.frames)
    yield from (offload.detections for offload in records.offloads)
    yield from (decision.explanation.tracked for decision in records.decisions)


def _is_plausible(detections: Detections) -> bool:
    return (
        bool((np.abs(detections.boxes_xyxy) <= MAX_PX).all())
        and bool(((detections.scores >= 0) & (detections.scores <= 1)).all())
        and bool(((detections.labels >= 0) & (detections.labels < len(COCO_CLASSES))).all())
    )


def _explains(why: DecisionExplanation, regions: tuple[int, int]) -> bool:
    """Whether an explanation is of these regions, and of one set of candidates."""
    candidates = range(len(why.tau_d))
    mentioned = (why.knee, why.chosen, *why.frontier.tolist())
    return (
        all(getattr(why, name).shape == regions for name in REGION_COLUMNS)
        and set(why.region_types.ravel().tolist()) <= set(RegionType)
        and all(getattr(why, name).shape == (len(candidates),) for name in _CANDIDATE_COLUMNS)
        and (why.cached_regions is None or why.cached_regions.shape == (len(candidates),))
        and set(why.tau_d.tolist()) <= {0, 1, 2}
        and all(index in candidates for index in mentioned)
        and why.reason.isidentifier()
        and len(why.reason) <= MAX_REASON
        and _has_plausible_values(why)
    )


def _has_plausible_values(row: Any) -> bool:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    numbers = (value for value in values.values() if isinstance(value, float | np.ndarray))
    return (
        all(bool((np.abs(value) <= MAX_VALUE).all()) for value in numbers)
        and values.get("source", BoxSource.NONE) in set(BoxSource)
        and values.get("status", OffloadStatus.OK) in set(OffloadStatus)
    )
