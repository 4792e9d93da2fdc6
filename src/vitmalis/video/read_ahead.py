"""Items that a thread makes ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")


def read_ahead(items: Iterator[T], ahead: int = 8) -> Iterator[T]:
    """Yield items in their order while a thread makes the next ones, such as images while others are encoded.

    Args:
        items: raises in this thread what it raises while an item is made.
        ahead: most items that wait in memory.
    """
    end = object()
    with ThreadPoolExecutor(1, "read ahead") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield cast(T, item)
