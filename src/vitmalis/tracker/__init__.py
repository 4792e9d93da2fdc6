"""Local trackers, and how to build one from its options."""

from __future__ import annotations

from collections.abc import Callable

from vitmalis.tracker.base import Tracker, TrackingImage
from vitmalis.tracker.flow_cache import FlowCacheOptions, FlowCacheTracker
from vitmalis.tracker.lucas_kanade import LucasKanadeOptions, LucasKanadeTracker

__all__ = [
    "TRACKERS",
    "FlowCacheOptions",
    "FlowCacheTracker",
    "LucasKanadeOptions",
    "LucasKanadeTracker",
    "Tracker",
    "TrackerOptions",
    "TrackingImage",
    "build_tracker",
    "tracker_name",
]

TrackerOptions = LucasKanadeOptions | FlowCacheOptions
"""Options of any tracker; in files the field `name` says which."""

TRACKERS: dict[str, Callable[..., Tracker]] = {
    "lucas_kanade": LucasKanadeTracker,
    "flow_cache": FlowCacheTracker,
}
"""Trackers by the name of their options, which each takes as its one argument; without, it has the defaults."""


def tracker_name(options: TrackerOptions) -> str:
    """Key of `TRACKERS` that these options belong to."""
    return str(options.__struct_config__.tag)


def build_tracker(options: TrackerOptions) -> Tracker:
    """Build the tracker that the options belong to."""
    return TRACKERS[tracker_name(options)](options)
