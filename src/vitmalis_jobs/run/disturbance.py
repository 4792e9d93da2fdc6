"""Disturbance of a run: measured while it plays in real time, and reported where its result is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from vitmalis.records import OffloadRecord
from vitmalis_jobs.common.machine_load import LoadMeter, MachineLoad
from vitmalis_jobs.run.latency_tables import kept_tables
from vitmalis_jobs.run.processes import Endpoint
from vitmalis_jobs.run.quiet_time import slowdown
from vitmalis_jobs.run.spec import PreparedRun

SLOW = 1.5
"""Slowdown of inference from which on a machine is called slow; the speed of shared ones varies by a third anyway."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What kept the machine from the run while it played.

    Attributes:
        load: of the machine.
        slowdown: of inference, 1 for what it takes on the quiet machine; None if unknown.
    """

    load: MachineLoad
    slowdown: float | None = None

    @property
    def reasons(self) -> list[str]:
        """Why the durations are not those of the quiet machine, as phrases; empty if they are."""
        if self.slowdown is None or self.slowdown < SLOW:
            return self.load.reasons
        return [*self.load.reasons, f"inference took {self.slowdown:.1f} times as long as on the quiet machine"]

    @property
    def metrics(self) -> dict[str, float]:
        """The measured values by name."""
        metrics = {"other_load": self.load.others, "throttled_periods": self.load.throttled}
        return metrics | ({} if self.slowdown is None else {"inference_slowdown": self.slowdown})


class DisturbanceMeter:
    """Measures the disturbance of a run in real time; created before the processes of the run, which are its own."""

    def __init__(self) -> None:
        self._load = LoadMeter()
        self._server_s: float | None = None

    def start(self, server: Endpoint) -> None:
        """Start measuring, as the clip starts to play."""
        self._load.restart()
        self._server_s = inference_processor_s(server)

    def stop(self, run: PreparedRun, server: Endpoint, offloads: Sequence[OffloadRecord]) -> Disturbance:
        """The disturbance since the start, for a run with these offloads."""
        load = self._load.load()
        if server.process is None:  # nothing is known about the machine that it runs on
            return Disturbance(load)
        before_s, after_s = self._server_s, inference_processor_s(server)
        used_s = None if before_s is None or after_s is None else after_s - before_s
        return Disturbance(load, slowdown(offloads, used_s, kept_tables(run)))


def inference_processor_s(server: Endpoint) -> float | None:
    """Processor time of a server so far, seconds; None for one on another machine or a GPU, or restarted."""
    process = server.process
    if process is None or process.exits or process.facts.get("device") != "cpu":
        return None
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def busy_verdict(reasons: Sequence[str], virtual: bool) -> str:
    """The sentences on a result that cannot be trusted, with the way out."""
    if virtual:
        way_out = "or with latency=paper_testbed, which needs no measurement here"
    else:
        way_out = "or with clock=virtual, which computes time (with latency=paper_testbed nothing is measured here)"
    return (
        f"do not trust this result. The machine was busy or slow: {', and '.join(reasons)}. Latencies are too long and "
        f"F1 is too low. Repeat it on a quiet machine, {way_out}"
    )
