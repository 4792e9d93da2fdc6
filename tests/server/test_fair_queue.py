"""Turns, bounds and batches of the fair queue."""

from __future__ import annotations

import threading

from vitmalis.server.fair_queue import FairQueue


def filled(*items: str, capacity: int = 99, per_owner: int = 99) -> FairQueue[str]:
    """Put items in a queue, each owned by its first letter."""
    queue: FairQueue[str] = FairQueue(capacity, per_owner)
    for item in items:
        assert queue.put(item[:1].encode(), item) is None
    return queue


def test_owners_take_turns_however_many_items_they_have() -> None:
    queue = filled("a1", "a2", "a3", "b1", "c1")
    assert [queue.take() for _ in range(5)] == [["a1"], ["b1"], ["c1"], ["a2"], ["a3"]]


def test_an_owner_who_was_served_waits_for_the_others() -> None:
    queue = filled("a1", "b1")
    assert queue.take() == ["a1"]
    queue.put(b"a", "a2")
    assert [queue.take() for _ in range(2)] == [["b1"], ["a2"]]


def test_each_bound_has_its_own_reason() -> None:
    queue = filled("a1", "a2", "b1", capacity=3, per_owner=2)
    assert queue.put(b"a", "a3") == "2 offloads of this client wait already"
    assert queue.put(b"c", "c1") == "3 offloads of 2 clients wait already"
    queue.take()
    assert queue.put(b"c", "c1") is None


def test_a_batch_takes_one_alike_item_of_each_owner() -> None:
    queue = filled("a1", "a1", "b2", "c1", "d1")
    assert queue.take(2, lambda first, other: first[1] == other[1]) == ["a1", "c1"]
    assert queue.take(9, lambda first, other: first[1] == other[1]) == ["b2"]
    assert queue.take(9, lambda first, other: first[1] == other[1]) == ["d1", "a1"]


def test_take_waits_and_close_ends_it() -> None:
    queue: FairQueue[str] = FairQueue(1, 1)
    taken: list[list[str]] = []

    def work() -> None:
        while items := queue.take():
            taken.append(items)

    thread = threading.Thread(target=work)
    thread.start()
    queue.put(b"a", "a1")
    while not taken:
        thread.join(0.01)
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert taken == [["a1"]]
