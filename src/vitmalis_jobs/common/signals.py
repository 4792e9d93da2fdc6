"""SIGINT and SIGTERM: both interrupt a job alike, and wait for short pieces of work that they must not interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM inside the block and deliver them at its end; no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    old = {s: signal.signal(s, lambda number, _: pending.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for blocked, handler in old.items():
            signal.signal(blocked, handler)
        for number in pending[:1]:
            signal.raise_signal(number)


def install_sigterm_handler() -> None:
    """Let SIGTERM (a scheduler's end of a job) end the process as Ctrl-C does, unless a launcher handles it."""
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
