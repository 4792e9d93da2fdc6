"""How profiling jobs say how far they are: on standard error, as standard output is for the result."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_EVERY_S = 5.0
"""Between two lines where nobody watches a terminal; six times as long while nothing gets done."""


class Reporter:
    """A bar on a terminal; now and then a line elsewhere, `task: done/total, N s left, note`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Two refreshes a second: drawing must not take the processor from what is measured.
        self._bars = Progress(*columns, console=self._console, refresh_per_second=2)
        self._bar = TaskID(-1)
        self._task = ""
        self._began_s = self._told_s = 0.0
        self._first = self._told = 0.0

    def step(self, done: float, total: float, task: str = "", note: str = "") -> None:
        """Tell that `done` of `total` is done, and what is next; time left is reckoned from a task's first call on."""
        if task != self._task:
            self._task, self._began_s, self._first, self._told_s = task, time.monotonic(), done, 0.0
            self._bar = self._bars.add_task(task, total=total)
        if not self._console.is_terminal:
            self._tell(done, total, note)
            return
        self._bars.start()  # of no consequence where it has begun
        self._bars.update(self._bar, completed=done, total=total, description=f"{task}: {note}" if note else task)
        if done >= total:
            self._bars.stop()

    def _tell(self, done: float, total: float, note: str) -> None:
        now_s = time.monotonic()
        pause_s = _EVERY_S if done > self._told else 6 * _EVERY_S
        if done < total and now_s - self._told_s < pause_s:
            return
        self._told_s, self._told = now_s, done
        gained = done - self._first
        left_s = (now_s - self._began_s) / gained * (total - done) if gained > 0 else 0.0
        parts = [f"{done:.0f}/{total:.0f}", f"{left_s:.0f} s left" if left_s else "", note]
        self.say(f"{self._task}: {', '.join(part for part in parts if part)}")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
