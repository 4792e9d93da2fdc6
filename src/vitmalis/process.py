"""Processes of the system: how they start, announce that they are ready, log, and end."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vitmalis.errors import UserError


def announce_ready(address: str, **facts: Any) -> None:
    """Announce to the parent, as one JSON line on standard output, that this process now serves at `address`."""
    print(json.dumps({"ready": address, **facts}), flush=True)


def exit_on_stdin_eof() -> None:
    """End this process when its standard input, a pipe, closes, so that no child process outlives its parent.

    Nothing happens if standard input is a terminal, a file, /dev/null (as of a service) or missing.
    """
    if sys.stdin is None or sys.stdin.closed or not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="stdin-watch", daemon=True).start()


def exit_within(seconds: float, status: int) -> None:
    """End this process after so long, if it has not ended by then, without a wait for anything that still runs."""

    def end() -> None:
        logging.shutdown()
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def log_to(path: str | None, *, rotate: bool = True) -> None:
    """Log to standard error, or to a file that is rotated at 10 MB; five old files are kept.

    Args:
        path: the file; None for standard error.
        rotate: False if another process rotates the file.

    Raises:
        UserError: the file cannot be written to.
    """
    try:
        if path is None:
            handler: logging.Handler = logging.StreamHandler(sys.stderr)
        elif rotate:
            handler = logging.handlers.RotatingFileHandler(path, maxBytes=10 * 2**20, backupCount=5)
        else:
            handler = logging.handlers.WatchedFileHandler(path)
    except OSError as error:
        raise UserError(f"log file '{path}' cannot be written to: {error.strerror}") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", handlers=[handler])


def descriptor_limit() -> int:
    """Most files and sockets that this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> None:
    """Allow this process as many open files and sockets as the system lets it, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if wanted > soft:
        with suppress(OSError, ValueError):  # some systems have a limit below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Interrupts:
    """Handling of SIGINT and SIGTERM: the first one interrupts a block of work, none interrupts saving its results.

    Created in the main thread; from then on signals outside a `raised` block are only recorded.
    """

    def __init__(self) -> None:
        self._raising = False
        self._seen = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        first, self._seen = not self._seen, True
        if first and self._raising:
            raise KeyboardInterrupt

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at the first signal in the block, or at its start if there was one before."""
        self._raising = True
        try:
            if self._seen:
                raise KeyboardInterrupt
            yield
        finally:
            self._raising = False


class Child:
    """A child process that announces when it is ready, and is stopped in order.

    Args:
        name: its name in errors.
        module: module that is run as `python -m module`.
        arguments: its command line.
        log: file for its standard error.
        environment: additional environment variables.
        shell: a command, with its arguments, that runs the command that follows it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        log: Path,
        environment: dict[str, str] | None = None,
        shell: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*shell, sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches the parent only, which then stops its children in order
            )

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def stdout(self) -> IO[str]:
        """Its standard output, as a text stream."""
        stream = self._process.stdout
        if stream is None:  # cannot happen: opened as a pipe above
            raise RuntimeError(f"{self.name} has no standard output")
        return stream

    def wait_ready(self) -> dict[str, Any]:
        """Wait until it announces that it is ready; return the announcement, whose key `ready` is its address.

        Raises:
            UserError: it exited before; the message ends with the last line of its log.
        """
        for line in self.stdout:
            if line.startswith('{"ready"'):
                facts: dict[str, Any] = json.loads(line)
                return facts
        code = self._process.wait()
        raise UserError(f"the {self.name} did not start (exit {code}): {self.last_log_line()}")

    def last_log_line(self) -> str:
        """Last line of its log, without a leading `error:`."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"no message, see {self.log}"

    def returncode(self) -> int | None:
        """Exit status, or None while the process runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it exits; return the exit status."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """Kill the process, as a crash would, and wait until it has exited."""
        self._process.kill()
        self._process.wait()

    def stop(self, grace_s: float = 5.0) -> int:
        """Close its standard input, then terminate, then kill; return the exit status."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        deadline = time.monotonic() + grace_s
        for stop in (lambda: None, self._process.terminate, self._process.kill):
            stop()
            try:
                return self._process.wait(max(0.5, (deadline - time.monotonic()) / 2))
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
