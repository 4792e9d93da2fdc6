"""The last bound on memory, for what the limits on single messages do not cover.

ZeroMQ collects all frames of a multipart message before it delivers the first, without a limit on their number. So a
client that never ends its message makes the process grow, and only the growth itself can be observed.
"""

from __future__ import annotations

import time

import psutil

_INTERVAL_S = 0.1


class MemoryGuard:
    """Checks whether this process has grown beyond a limit.

    Args:
        max_growth_bytes: resident memory that may be added to the baseline.
    """

    def __init__(self, max_growth_bytes: int) -> None:
        self._max_growth_bytes = max_growth_bytes
        self._process = psutil.Process()
        self._next_s = 0.0
        self.set_baseline()

    def set_baseline(self) -> None:
        """Measure growth from the present size on."""
        self._baseline_bytes = self._process.memory_info().rss

    def exceeded(self) -> bool:
        """Whether the process has grown beyond the limit; measured at most ten times a second, False in between."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _INTERVAL_S
        return self._process.memory_info().rss - self._baseline_bytes > self._max_growth_bytes
