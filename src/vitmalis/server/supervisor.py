"""The supervisor of a server: it owns the listening socket, and starts the server again when that fails.

So the address stays taken and clients that connect meanwhile wait instead of being refused.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

_BACK_OFF_S = (0.5, 30.0)
_LONG_LIFE_S = 60.0
"""After a life this long the next start is not delayed more than the first."""
_GRACE_S = 5.0
_MISTAKE = 2
_log = logging.getLogger("vitmalis.server")


class Supervisor:
    """Runs a server in a child process, and again after each failure, with a growing delay.

    A server that fails before it was ever ready, or whose start shows a user's mistake, is not started again.

    Args:
        command: starts the server, which prints one line once it is ready.
        listener: listening socket that the server inherits.
        back_off_s: first and longest delay before a start.

    Attributes:
        restarts: how often the server was started again.
    """

    def __init__(
        self, command: Sequence[str], listener: socket.socket, back_off_s: tuple[float, float] = _BACK_OFF_S
    ) -> None:
        self.restarts = 0
        self._command = list(command)
        self._listener = listener
        self._back_off_s = back_off_s
        self._ready = False
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None

    def stop_on_signals(self) -> None:
        """End `run` on SIGTERM and SIGINT; call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def stop(self) -> None:
        """End the server, and with it `run`; safe from any thread and in a signal handler."""
        self._stopping.set()
        child = self._child
        if child is not None:
            child.terminate()
            kill = threading.Timer(_GRACE_S, child.kill)
            kill.daemon = True
            kill.start()

    def run(self) -> int:
        """Run the server until it is stopped, or not to be started again; return its exit status, 1 for a signal's."""
        delay_s = self._back_off_s[0]
        while True:
            started_s = time.monotonic()
            status = self._run_once()
            if self._stopping.is_set():
                return 0
            if status in (0, _MISTAKE) or not self._ready:
                return max(status, 1) if status else 0
            if time.monotonic() - started_s > _LONG_LIFE_S:
                delay_s = self._back_off_s[0]
            self.restarts += 1
            cause = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            _log.error("the server ended (%s); restart %d in %.1f s", cause, self.restarts, delay_s)
            if self._stopping.wait(delay_s):
                return 0
            delay_s = min(2 * delay_s, self._back_off_s[1])

    def _run_once(self) -> int:
        """Run the server to its end, pass on the line that says that it is ready, and return its exit status."""
        environment = {"PYTHONFAULTHANDLER": "1", **os.environ}  # a crash inside a library leaves its stack in the log
        self._child = child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,  # which closes if this process is killed
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=[self._listener.fileno()],
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        with child:
            if self._stopping.is_set():  # since before the child was known
                self.stop()
            for line in child.stdout or ():
                if not self._ready:
                    self._ready = line.startswith('{"ready"')
                    with suppress(OSError):  # no one reads it any more
                        print(line, end="", flush=True)
        return child.returncode
