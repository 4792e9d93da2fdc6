"""The virtual clock: what happens when, in the order of time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

Happening = Callable[[], None]


class EventQueue:
    """Things that will happen, and the time of the one that happens now.

    Attributes:
        now_s: seconds since the first frame of the run.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._waiting: list[tuple[float, int, Happening]] = []
        self._count = 0

    def at(self, time_s: float, happening: Happening) -> None:
        """Let something happen at `time_s`; things at one time happen in the order of these calls.

        Raises:
            ValueError: that time has passed.
        """
        if not time_s >= self.now_s:
            raise ValueError(f"{time_s} s has passed: it is {self.now_s} s")
        heapq.heappush(self._waiting, (time_s, self._count, happening))
        self._count += 1

    @property
    def next_s(self) -> float:
        """When the next thing happens; infinity if nothing waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def step(self) -> None:
        """Let the next thing happen."""
        self.now_s, _, happening = heapq.heappop(self._waiting)
        happening()

    def run_before(self, time_s: float) -> None:
        """Let everything happen that is due before `time_s`; then it is `time_s`."""
        while self.next_s < time_s:
            self.step()
        self.now_s = time_s
