"""The event queue that advances the virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Handler = Callable[[], None]


class EventQueue:
    """Scheduled events in the order of time.

    Attributes:
        now_s: time of the current event, seconds since the first frame of the run.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._waiting: list[tuple[float, bool, int, Handler]] = []
        self._count = 0

    def at(self, time_s: float, handler: Handler, *, first: bool = False) -> None:
        """Schedule an event; events at the same time run in the order of these calls.

        Args:
            time_s: when it runs.
            handler: runs it.
            first: before the others of the same time.

        Raises:
            ValueError: the time has passed.
        """
        if not time_s >= self.now_s:
            raise ValueError(f"{time_s} s has passed: it is {self.now_s} s")
        heapq.heappush(self._waiting, (time_s, not first, self._count, handler))
        self._count += 1

    def step(self) -> None:
        """Advance to the next event and run it."""
        self.now_s, _, _, handler = heapq.heappop(self._waiting)
        handler()
