"""Local trackers, and how to build one from its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vitmalis.extensions import ExtensionPoint
from vitmalis.tracker.base import Tracker, TrackingImage
from vitmalis.tracker.flow_cache import FlowCacheOptions, FlowCacheTracker
from vitmalis.tracker.frame_to_frame import FrameToFrameTracker
from vitmalis.tracker.lucas_kanade import LucasKanadeOptions, LucasKanadeTracker

__all__ = [
    "TRACKER",
    "TRACKERS",
    "CustomTracker",
    "FlowCacheOptions",
    "FlowCacheTracker",
    "FrameToFrameTracker",
    "LucasKanadeOptions",
    "LucasKanadeTracker",
    "Tracker",
    "TrackerOptions",
    "TrackingImage",
    "build_tracker",
    "tracker_name",
]


class CustomTracker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="custom"):
    """A tracker of another package.

    Attributes:
        label: its name for people.
        target: dotted name of its class, or its entry point.
        options: keyword arguments of its constructor.
        times: its durations on the virtual clock, see `vitmalis.estimation.stage_times.TrackerTimes`.
    """

    label: str
    target: str
    options: dict[str, Any] = {}
    times: dict[str, float] = {}


TrackerOptions = LucasKanadeOptions | FlowCacheOptions | CustomTracker
"""Options of any tracker; in files the field `name` says which."""

TRACKERS: Mapping[str, type[Tracker]] = {
    "lucas_kanade": LucasKanadeTracker,
    "flow_cache": FlowCacheTracker,
}
"""Trackers by the name of their options, which each takes as its one argument; without, it has the defaults."""

TRACKER = ExtensionPoint("tracker", "vitmalis.trackers", Tracker, TRACKERS)
"""Where trackers come from: `TRACKERS`, entry points, and classes of other packages by their dotted names."""


def tracker_name(options: TrackerOptions) -> str:
    """Key of `TRACKERS` that these options belong to, or the label of a tracker of another package."""
    return options.label if isinstance(options, CustomTracker) else str(options.__struct_config__.tag)


def build_tracker(options: TrackerOptions) -> Tracker:
    """Build the tracker that the options belong to.

    Raises:
        UserError: it is of another package, and cannot be found or does not take its options.
    """
    if isinstance(options, CustomTracker):
        return TRACKER.build(options.target, options.options)
    build: Any = TRACKERS[tracker_name(options)]
    return build(options)
