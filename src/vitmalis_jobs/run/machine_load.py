"""Processor time that other programs take while a run plays in real time, which makes its latencies too long."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.2
"""Share of the machine's processor time from which a machine is called busy."""


@dataclass(frozen=True, slots=True)
class ProcessorTimes:
    """Processor seconds so far: of all cores together, of these the busy ones, and those of this run's processes."""

    total_s: float
    busy_s: float
    ours_s: float

    @classmethod
    def now(cls) -> ProcessorTimes:
        """Read the counters of the machine, of this process and of all processes below it, ended ones too."""
        machine = psutil.cpu_times()
        idle_s = machine.idle + getattr(machine, "iowait", 0.0)
        guest_s = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # counted in `user`, too
        total_s = sum(machine) - guest_s
        return cls(total_s, total_s - idle_s, _ours_s())

    def others_since(self, before: ProcessorTimes) -> float:
        """Share of the processor time since `before` that other programs took, 0..1."""
        total_s = self.total_s - before.total_s
        others_s = (self.busy_s - before.busy_s) - (self.ours_s - before.ours_s)
        return min(max(others_s / total_s, 0.0), 1.0) if total_s > 0 else 0.0


def _ours_s() -> float:
    own = psutil.Process()
    seconds = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended, and counts with its parent
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def busy_warning(others: float) -> str:
    """The warning for a run during which other programs had this share of the machine; empty for a quiet machine."""
    if others < BUSY_SHARE:
        return ""
    return (
        f"other programs took {others:.0%} of this machine's processor time while the clip played: latencies are too "
        "long and F1 is too low; repeat the run on a quiet machine, or add clock=virtual, whose results do not depend "
        "on the machine's load"
    )
