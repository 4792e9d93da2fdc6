"""The event queue that advances the virtual clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

Handler = Callable[[], None]


class EventQueue:
    """Scheduled events in the order of time.

    Attributes:
        now_s: time of the current event, seconds since the first frame of the run.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._waiting: list[tuple[float, int, Handler]] = []
        self._count = 0

    def at(self, time_s: float, handler: Handler) -> None:
        """Schedule an event; events at the same time run in the order of these calls.

        Raises:
            ValueError: the time has passed.
        """
        if not time_s >= self.now_s:
            raise ValueError(f"{time_s} s has passed: it is {self.now_s} s")
        heapq.heappush(self._waiting, (time_s, self._count, handler))
        self._count += 1

    @property
    def next_s(self) -> float:
        """Time of the next event; infinity without one."""
        return self._waiting[0][0] if self._waiting else math.inf

    def step(self) -> None:
        """Advance to the next event and run it."""
        self.now_s, _, handler = heapq.heappop(self._waiting)
        handler()

    def run_before(self, time_s: float) -> None:
        """Run all events before `time_s`, and advance to it."""
        while self.next_s < time_s:
            self.step()
        self.now_s = time_s
