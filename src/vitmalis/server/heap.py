"""Memory that the heap holds without need, given back to the operating system.

Layouts of new masks are small and stay, and pin large freed activations below them: glibc gives back what lies at the
end of a heap only. Other C libraries do so by themselves.
"""

from __future__ import annotations

import ctypes
import sys
import time

TRIM_S = 60.0
"""Time between two trims: one takes some 20 ms, and the next inference some 40 ms more to get its memory again."""


class HeapTrimmer:
    """Gives free memory of the heap back, at most once in `interval_s`; does nothing without glibc."""

    def __init__(self, interval_s: float = TRIM_S) -> None:
        self._interval_s = interval_s
        self._due_s = time.monotonic() + interval_s
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def trim(self) -> bool:
        """Trim the heap if the last time was long enough ago; whether it was."""
        if self._trim is None or time.monotonic() < self._due_s:
            return False
        self._trim(ctypes.c_size_t(0))
        self._due_s = time.monotonic() + self._interval_s
        return True
