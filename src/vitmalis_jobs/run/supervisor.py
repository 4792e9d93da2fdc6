"""A process of ours that is started again when it dies, where it was: a run outlives its server and its link."""

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
"""Starts in a row that may fail before it is given up."""
SHORT_LIFE_S = 5.0
"""A process that lives no longer waits longer and longer before it is started again."""
_BACK_OFF_S = (0.1, 5.0)

Facts = dict[str, Any]
"""What a process has told in JSON lines on its standard output."""


class SupervisedProcess:
    """A child process that a thread starts again whenever it ends by itself.

    Args:
        start: starts it; is given what it told in its earlier life (nothing at first), so that it can go on there.
        restart: False only notes how it ended.

    Raises:
        UserError: it does not start at all.

    Attributes:
        facts: what it has told so far.
        deaths: how it ended each time, such as `killed by SIGKILL`.
        given_up: why it is not started any more; empty while it is.
    """

    def __init__(self, start: Callable[[Facts], Child], *, restart: bool = True) -> None:
        self.facts: Facts = {}
        self.deaths: list[str] = []
        self.given_up = ""
        self._start, self._restart = start, restart
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._begin()
        try:
            self.facts |= self._child.wait_ready()
        except BaseException:
            self._child.stop()
            raise
        self._thread = threading.Thread(target=self._watch, name=f"watch-{self._child.name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self._child.pid

    @property
    def sequel(self) -> str:
        """What came of its last end, to go on a sentence with."""
        if not self._restart:
            return ""
        return f" and did not start again: {self.given_up}" if self.given_up else " and was started again"

    def stop(self) -> None:
        """End the process in order, and do not start it again."""
        self._stopping.set()
        with self._lock:
            self._child.stop()
        self._thread.join()

    def __enter__(self) -> SupervisedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> bool:
        """Start the process without waiting until it is ready, so that `stop` finds it however long that takes."""
        with self._lock:
            if self._stopping.is_set():
                return False
            self._child = self._start(self.facts)
            return True

    def _watch(self) -> None:
        back_off_s, born_s = _BACK_OFF_S[0], time.monotonic()
        while True:
            for line in self._child.stdout:  # until it ends
                if line.startswith("{"):
                    self.facts |= json.loads(line)
            fate = _fate(self._child.wait())
            if self._stopping.is_set():
                return
            self.deaths.append(fate)
            _log.warning("the %s ended (%s)", self._child.name, fate)
            if time.monotonic() - born_s > SHORT_LIFE_S:
                back_off_s = _BACK_OFF_S[0]
            if not self._restart or not self._revived(back_off_s):
                return
            back_off_s, born_s = min(2 * back_off_s, _BACK_OFF_S[1]), time.monotonic()

    def _revived(self, back_off_s: float) -> bool:
        """Start it again after a while, more than once if need be; False if that is over."""
        for _ in range(MAX_FAILURES):
            if self._stopping.wait(back_off_s):
                return False
            if not self._begin():
                return False
            try:
                self.facts |= self._child.wait_ready()
            except UserError as error:
                self.given_up = str(error)
                back_off_s = min(2 * back_off_s, _BACK_OFF_S[1])
            else:
                self.given_up = ""
                return True
        _log.error("given up after %d failed starts: %s", MAX_FAILURES, self.given_up)
        return False


def _fate(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
