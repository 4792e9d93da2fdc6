"""The last bound on memory: what the limits on single messages leave open.

ZeroMQ collects all frames of a multipart before it hands over the first, without a limit on their number, so a peer
that never ends its message makes the process grow where no code of ours sees it. What can be seen is the growth.
"""

from __future__ import annotations

import time

import psutil

_INTERVAL_S = 0.1


class MemoryGuard:
    """Tells when this process has grown more than it should.

    Args:
        max_growth_bytes: resident memory that may be added to what there was at `settle`.
    """

    def __init__(self, max_growth_bytes: int) -> None:
        self._max_growth_bytes = max_growth_bytes
        self._process = psutil.Process()
        self._next_s = 0.0
        self.settle()

    def settle(self) -> None:
        """Measure growth from here on."""
        self._settled_bytes = self._process.memory_info().rss

    def exceeded(self) -> bool:
        """Whether it has grown too much; looks at most ten times a second."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _INTERVAL_S
        return self._process.memory_info().rss - self._settled_bytes > self._max_growth_bytes
