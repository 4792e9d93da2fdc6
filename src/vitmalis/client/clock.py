"""The clock of the realtime client: what it reads the time from, and waits on."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Protocol

from vitmalis.client.workers import Report

Inbox = queue.SimpleQueue[Report]


class Clock(Protocol):
    """A monotonic clock; a test may step through time instead of waiting for it."""

    @property
    def sleep(self) -> Callable[[float], object] | None:
        """How the camera waits so many seconds; None for its own way, which `Camera.stop` can end."""

    def now_s(self) -> float:
        """Read the time, seconds since an arbitrary origin."""

    def next_report(self, inbox: Inbox, until_s: float) -> Report | None:
        """Wait for the next report of the client's threads; None once it is `until_s`."""


class WallClock:
    """The operating system's monotonic clock."""

    sleep = None

    def now_s(self) -> float:
        """Read the time from `time.monotonic`, seconds."""
        return time.monotonic()

    def next_report(self, inbox: Inbox, until_s: float) -> Report | None:
        """Wait for the next report; None once it is `until_s`, even if reports are waiting."""
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return None
        try:
            return inbox.get(timeout=left_s)
        except queue.Empty:
            return None
