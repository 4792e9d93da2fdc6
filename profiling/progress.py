"""How profiling jobs say how far they are: on standard error, as standard output is for the result."""

from __future__ import annotations

import sys
import time

_EVERY_S = 5.0
"""Between two lines where nobody watches a terminal; six times as long while nothing gets done."""


class Reporter:
    """A line that is rewritten on a terminal; now and then a new one elsewhere."""

    def __init__(self) -> None:
        self._task = ""
        self._began_s = self._told_s = 0.0
        self._first = self._told = 0.0
        self._open = False

    def step(self, done: float, total: float, task: str = "") -> None:
        """Tell that `done` of `total` is done; time left is reckoned from the first call of a task on."""
        now = time.monotonic()
        if task != self._task:
            self._task, self._began_s, self._first, self._told_s = task, now, done, 0.0
        terminal = sys.stderr.isatty()
        pause_s = 0.2 if terminal else _EVERY_S if done > self._told else 6 * _EVERY_S
        if done < total and now - self._told_s < pause_s:
            return
        self._told_s, self._told = now, done
        gained = done - self._first
        left = f", {(now - self._began_s) / gained * (total - done):.0f} s left" if gained > 0 and done < total else ""
        self._open = terminal and done < total
        print(
            f"{task}: {done:.0f}/{total:.0f}{left}", end="\x1b[K\r" if self._open else "\n", file=sys.stderr, flush=True
        )

    def say(self, text: str) -> None:
        """A line of its own."""
        print("\n" * self._open + text, file=sys.stderr, flush=True)
        self._open = False
