"""Work that a thread does while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_background(work: Callable[[threading.Event], None], name: str, *, daemon: bool = False) -> Iterator[None]:
    """Let a thread work while the block runs, and wait for its end.

    Args:
        work: what it does; returns soon after its argument is set, which is at the end of the block.
        name: of the thread.
        daemon: whether the process may end before the thread does.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=daemon)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
