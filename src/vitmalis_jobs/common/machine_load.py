"""How busy this machine was with other work while something was measured in time.

Two shares are measured over the same interval: the processor time that other programs took, and the scheduling periods
in which a limit on processor time (of a container) made this program wait. Programs that run at a low priority count
like all others: they share caches, clock frequency and often a core's second hyperthread with what is measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from vitmalis_jobs.common.processor_limit import ProcessorLimit

BUSY_SHARE = 0.2
"""Either share from which on a machine is called busy."""

BUSY = "busy_machine"
"""Name under which a busy machine is noted: a tag and a metric (1) of runs, a fact of measurements."""

BUSY_MARK = "*"
BUSY_NOTE = (
    f"were played while the machine was busy or slow ({BUSY_MARK}): latencies are too long and F1 is too low, also in "
    "means over them; repeat them on a quiet machine, or with clock=virtual"
)
"""What `N of M runs` in a footnote is followed by, in tables whose runs or means carry `BUSY_MARK`."""


def is_busy(metrics: Mapping[str, float]) -> bool:
    """Whether the run with these metrics was made on a busy machine."""
    return bool(metrics.get(BUSY, 0.0) == 1.0)


def busy_marks(runs: Sequence[Mapping[str, float]]) -> list[str]:
    """What follows a number of each run with these metrics in a table: a mark, or a blank of its width next to one."""
    busy = [is_busy(metrics) for metrics in runs]
    return [BUSY_MARK if one else " " * any(busy) for one in busy]


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """The load of a machine over an interval.

    Attributes:
        others: share of the processor time that this program may use which other programs took, 0..1.
        throttled: share of scheduling periods in which a limit on processor time was reached, 0..1.
    """

    others: float = 0.0
    throttled: float = 0.0

    @property
    def reasons(self) -> list[str]:
        """What made the machine busy, as phrases; empty if it was quiet."""
        reasons = []
        if self.others >= BUSY_SHARE:
            reasons.append(f"other programs took {self.others:.0%} of the processor time")
        if self.throttled >= BUSY_SHARE:
            reasons.append(f"a limit on processor time (cgroup) was reached in {self.throttled:.0%} of its periods")
        return reasons

    @property
    def facts(self) -> dict[str, Any]:
        """The load as facts of a measurement, for its result."""
        return {"other_load": round(self.others, 3), "throttled_periods": round(self.throttled, 3), BUSY: self.reasons}


@dataclass(frozen=True, slots=True)
class ProcessorTimes:
    """Processor seconds so far: of all cores together, of these the busy ones, and those of this program."""

    total_s: float
    busy_s: float
    ours_s: float


class LoadMeter:
    """Measures the load of the machine from its creation on.

    The time of this process and of the processes that it starts afterwards is its own. Processes that it had started
    before, as a notebook or a test may have, are other programs.
    """

    def __init__(self) -> None:
        self._foreign = set(psutil.Process().children())
        self.restart()

    def restart(self) -> None:
        """Measure from now on; processes that were started since the creation stay this program's."""
        self._limit, self._times = ProcessorLimit.now(), self.read()

    def load(self) -> MachineLoad:
        """The load since the creation, or since the last restart."""
        limit = ProcessorLimit.now()
        others = share_of_others(self._times, self.read(), usable_share(limit.cores))
        return MachineLoad(others, limit.throttled_since(self._limit))

    def read(self) -> ProcessorTimes:
        """Read the counters of the machine and of this program."""
        machine = psutil.cpu_times()
        idle_s = machine.idle + getattr(machine, "iowait", 0.0)
        guest_s = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # counted in `user`, too
        total_s = sum(machine) - guest_s
        return ProcessorTimes(total_s, total_s - idle_s, self._ours_s())

    def _ours_s(self) -> float:
        own = os.times()  # with the children that have ended
        seconds = own.user + own.system + own.children_user + own.children_system
        for child in set(psutil.Process().children()) - self._foreign:
            seconds += sum(map(_process_s, [child, *_descendants(child)]))
        return seconds


def share_of_others(before: ProcessorTimes, after: ProcessorTimes, usable: float = 1.0) -> float:
    """Share of the processor time between two readings that other programs took, 0..1.

    Args:
        before, after: the readings.
        usable: share of the machine that this program may use. Of that part others take nothing as long as they fit
            on the rest.
    """
    total_s = after.total_s - before.total_s
    if total_s <= 0:
        return 0.0
    others_s = (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)
    return min(max((others_s / total_s - (1.0 - usable)) / usable, 0.0), 1.0)


def usable_share(limit_cores: float = math.inf) -> float:
    """Share of the machine that this process may use: the cores that it may run on, within a limit on their number."""
    process, cores = psutil.Process(), psutil.cpu_count() or 1
    allowed = len(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else cores
    return min(allowed or cores, limit_cores, cores) / cores


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:  # it has just ended
        return []


def _process_s(process: psutil.Process) -> float:
    """Processor seconds of a process and of its children that have ended; 0 if it has just ended itself."""
    try:
        times = process.cpu_times()
    except psutil.Error:  # its time is now in that of its parent
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
