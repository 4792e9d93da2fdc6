"""Durations of a run's tracker on the virtual clock, and what stands in for those of a tracker of another package."""

from __future__ import annotations

import msgspec

from vitmalis.errors import UserError
from vitmalis.estimation.stage_times import TrackerTimes
from vitmalis.tracker import CustomTracker, TrackerOptions, tracker_name

_MEASURED = "lucas_kanade"
"""Tracker that all latency tables have."""


def tracker_times(options: TrackerOptions) -> str | TrackerTimes:
    """What `Durations` takes: the tracker's name in latency tables, or the configured durations of one without tables.

    Raises:
        UserError: the configured durations are not those of a tracker.
    """
    if not isinstance(options, CustomTracker):
        return tracker_name(options)
    if not options.times:
        return _MEASURED
    try:
        return msgspec.convert(options.times, TrackerTimes)
    except msgspec.ValidationError as error:
        fields = ", ".join(TrackerTimes.__struct_fields__)
        raise UserError(f"client.tracker.times={options.times}: {error}: give seconds for some of {fields}") from error


def times_stand_in(options: TrackerOptions) -> str:
    """Whose durations a tracker has on the virtual clock, if not its own; empty otherwise."""
    borrowed = isinstance(options, CustomTracker) and not options.times
    return f"durations of {_MEASURED} for '{tracker_name(options)}', which says none (times)" if borrowed else ""
