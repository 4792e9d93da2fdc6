"""Supervision of a child process: when it exits by itself, it is started again in the state that it last reported."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from vitmalis.errors import UserError
from vitmalis.process import Child

_log = logging.getLogger(__name__)
MAX_FAILURES = 3
"""Starts in a row that may fail before the supervisor gives up."""
SHORT_LIFE_S = 5.0
"""A process that exits within this time is started again after a growing delay."""
_BACK_OFF_S = (0.1, 5.0)

Facts = dict[str, Any]
"""What a process has reported in JSON lines on its standard output."""


class SupervisedProcess:
    """A child process that a thread starts again whenever it exits by itself.

    Args:
        start: starts the process; is given what it reported before it exited (nothing at first), so that it can
            continue from there.
        restart: False records how it exited and does not start it again.

    Raises:
        UserError: the first start fails.

    Attributes:
        facts: what the process has reported so far.
        exits: how it exited each time, such as `killed by SIGKILL`.
        ready: whether it runs and has announced that it is ready, as far as is known.
        gave_up_reason: why it is not started again; empty as long as it is.
    """

    def __init__(self, start: Callable[[Facts], Child], *, restart: bool = True) -> None:
        self.facts: Facts = {}
        self.exits: list[str] = []
        self.gave_up_reason = ""
        self._start, self._restart = start, restart
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._begin()
        try:
            self.facts |= self._child.wait_ready()
        except BaseException:
            self._child.stop()
            raise
        self.ready = True
        self._thread = threading.Thread(target=self._watch, name=f"watch-{self._child.name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process id of the process that is running, or ran last."""
        return self._child.pid

    @property
    def outcome(self) -> str:
        """What followed the last exit, as the continuation of a sentence."""
        if not self._restart:
            return ""
        return f" and did not start again: {self.gave_up_reason}" if self.gave_up_reason else " and was started again"

    def stop(self) -> None:
        """Stop the process, and do not start it again."""
        self._stopping.set()
        with self._lock:
            self._child.stop()
        self._thread.join()

    def __enter__(self) -> SupervisedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> bool:
        """Start the process without waiting until it is ready, so that `stop` can end it during a long start."""
        with self._lock:
            if self._stopping.is_set():
                return False
            self._child = self._start(self.facts)
            return True

    def _watch(self) -> None:
        back_off_s, started_s = _BACK_OFF_S[0], time.monotonic()
        while True:
            for line in self._child.stdout:  # until the process exits
                if line.startswith("{"):
                    self.facts |= json.loads(line)
            cause = exit_cause(self._child.wait())
            self.ready = False
            if self._stopping.is_set():
                return
            self.exits.append(cause)
            _log.warning("the %s ended (%s)", self._child.name, cause)
            if time.monotonic() - started_s > SHORT_LIFE_S:
                back_off_s = _BACK_OFF_S[0]
            if not self._restart or not self._started_again(back_off_s):
                return
            back_off_s, started_s = min(2 * back_off_s, _BACK_OFF_S[1]), time.monotonic()

    def _started_again(self, back_off_s: float) -> bool:
        """Start the process again after a delay, with up to `MAX_FAILURES` tries; False if it is not to run again."""
        for _ in range(MAX_FAILURES):
            if self._stopping.wait(back_off_s):
                return False
            try:
                if not self._begin():
                    return False
                self.facts |= self._child.wait_ready()
            except (OSError, UserError) as error:  # without descriptors or memory there is not even a process
                self.gave_up_reason = str(error)
                back_off_s = min(2 * back_off_s, _BACK_OFF_S[1])
            else:
                self.gave_up_reason, self.ready = "", True
                return True
        _log.error("gave up after %d failed starts: %s", MAX_FAILURES, self.gave_up_reason)
        return False


def exit_cause(code: int) -> str:
    """How a process exited, by its exit status: `killed by SIGKILL`, `exit status 1`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
