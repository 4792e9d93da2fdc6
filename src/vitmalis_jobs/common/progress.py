"""Progress in three forms: a bar on a terminal, a line every few seconds in a log, JSON lines for a parent process."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

_VARIABLE = "VITMALIS_PROGRESS"
AS_JSON = {_VARIABLE: "json"}
"""Environment of a child process whose progress its parent reads: it then prints JSON lines on standard output."""

_LINE_EVERY_S = 5.0
"""Between two lines in a log; six times as long while nothing gets done."""
_JSON_EVERY_S = 0.2


class ProgressDisplay(Protocol):
    """Where the progress of one task after another is shown."""

    def update(self, task: str, done: float, total: float, note: str) -> None:
        """Show that `done` of `total` is done; another task than before starts a new display."""

    def close(self) -> None:
        """End the task, finished or not."""


def progress_display(console: Console) -> ProgressDisplay:
    """The form that fits a console, or JSON lines where the parent process asked for them (`AS_JSON`)."""
    if os.environ.get(_VARIABLE) == "json":
        return JsonLines()
    return Bars(console) if console.is_terminal else LogLines(console)


def read_progress(lines: Iterable[str]) -> Iterator[tuple[float, float, str]]:
    """Read what a child process with `AS_JSON` prints: done, total and task; its other lines are skipped."""
    for line in lines:
        if line.startswith('{"progress"'):
            report = json.loads(line)
            yield report["progress"], report["total"], report["task"]


class Bars:
    """A bar for the task under way on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._id = TaskID(0)
        self._task = ""
        atexit.register(self.close)  # gives the cursor back, however the process ends

    def update(self, task: str, done: float, total: float, note: str) -> None:
        """Move the bar, as `ProgressDisplay` describes."""
        if self._bars is None and task == self._task and done >= total:
            return  # it has been closed as complete
        if self._bars is None or task != self._task:
            self.close()
            self._task, self._bars = task, self._new_bars()
            self._id = self._bars.add_task(task, total=total, note=note)
            self._bars.start()
        self._bars.update(self._id, completed=done, total=total, note=note)
        if done >= total:
            self._bars.stop()
            self._bars = None

    def close(self) -> None:
        """Remove the bar, as `ProgressDisplay` describes."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._task = None, ""

    def _new_bars(self) -> Progress:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        # Two refreshes a second: drawing must not take the processor from what is measured. Standard output is the
        # job's result where the console is standard error, so it is not redirected to the console.
        return Progress(*columns, console=self._console, refresh_per_second=2, redirect_stdout=not self._console.stderr)


class LogLines:
    """A line at the start of a task, `task ...`, then every few seconds `task: done/total, N s left, note`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._task: str | None = None
        self._start_s = self._printed_s = 0.0
        self._first = self._printed = 0.0

    def update(self, task: str, done: float, total: float, note: str) -> None:
        """Print a line if one is due, as `ProgressDisplay` describes."""
        now_s = time.monotonic()
        if task != self._task:
            self._task, self._start_s, self._first = task, now_s, done
            self._print(f"{task} ...", now_s, done)
        elif now_s - self._printed_s >= self._pause_s(done, total):
            gained = done - self._first
            left_s = (now_s - self._start_s) / gained * (total - done) if gained > 0 else 0.0
            parts = [f"{done:.0f}/{total:.0f}", f"{left_s:.0f} s left" if left_s else "", note]
            self._print(f"{task}: {', '.join(part for part in parts if part)}", now_s, done)

    def close(self) -> None:
        """Forget the task, as `ProgressDisplay` describes."""
        self._task = None

    def _pause_s(self, done: float, total: float) -> float:
        if done <= self._printed:
            return 6 * _LINE_EVERY_S
        finished_long_task = done >= total and self._printed_s > self._start_s
        return 0.0 if finished_long_task else _LINE_EVERY_S

    def _print(self, text: str, now_s: float, done: float) -> None:
        self._printed_s, self._printed = now_s, done
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class JsonLines:
    """JSON lines on standard output, `{"progress": done, "total": total, "task": task, "note": note}`."""

    def __init__(self) -> None:
        self._task: str | None = None
        self._printed_s = 0.0

    def update(self, task: str, done: float, total: float, note: str) -> None:
        """Print a report if one is due, as `ProgressDisplay` describes."""
        now_s = time.monotonic()
        if task == self._task and done < total and now_s - self._printed_s < _JSON_EVERY_S:
            return
        self._task, self._printed_s = task, now_s
        print(json.dumps({"progress": done, "total": total, "task": task, "note": note}), flush=True)

    def close(self) -> None:
        """Forget the task, as `ProgressDisplay` describes."""
        self._task = None
