"""Items that a thread makes ahead of their use."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vitmalis.video.read_ahead import read_ahead


def test_items_keep_their_order() -> None:
    assert list(read_ahead(iter(range(20)), 3)) == list(range(20))
    assert list(read_ahead(iter([]))) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    reader = read_ahead(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(reader)


def test_no_more_items_are_made_than_may_wait() -> None:
    made = threading.Semaphore(0)
    count = 0

    def items() -> Iterator[int]:
        nonlocal count
        for number in range(100):
            count += 1
            made.release()
            yield number

    reader = read_ahead(items(), 4)
    assert next(reader) == 0
    for _ in range(5):
        assert made.acquire(timeout=30)
    reader.close()
    assert count == 5
