"""The boxes that a client knows, and which of them are rendered."""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.client.events import Render
from vitmalis.types import BoxSource, Detections


@dataclass(frozen=True, slots=True, eq=False)
class KnownBoxes:
    """Boxes, the frame they were computed for, and the offloaded frame whose result they come from."""

    frame_index: int
    detections: Detections
    result_frame_index: int


def rendered(frame_index: int, result: KnownBoxes | None, tracked: KnownBoxes | None) -> Render:
    """Return the boxes to show on a frame, the first that exist of: its own result, tracked ones, the latest result."""
    if result is None:
        return Render(frame_index, Detections.empty(), BoxSource.NONE)
    if result.frame_index == frame_index:
        return Render(frame_index, result.detections, BoxSource.REMOTE, frame_index, frame_index)
    if tracked is not None:
        source, shown = BoxSource.TRACKER, tracked
    else:
        source, shown = BoxSource.STALE, result
    return Render(frame_index, shown.detections, source, shown.result_frame_index, shown.frame_index)
