"""Shares, bounds and batches of the fair queue."""

from __future__ import annotations

import threading

from vitmalis.server.fair_queue import FairQueue


def filled(*items: str, capacity: int = 99, per_owner: int = 99) -> FairQueue[str]:
    """Put items of equal cost in a queue, each owned by its first letter."""
    queue: FairQueue[str] = FairQueue(capacity, per_owner)
    for item in items:
        assert queue.put(item[:1].encode(), item) is None
    return queue


def served(costs: dict[str, float], turns: int) -> str:
    """Owners in the order in which they are served, each offloading again while its offload is served."""
    queue: FairQueue[str] = FairQueue(99, 2)
    for owner, cost in costs.items():
        queue.put(owner.encode(), owner, cost)
    order = ""
    for _ in range(turns):
        (owner,) = queue.take()
        order += owner
        queue.put(owner.encode(), owner, costs[owner])
    return order


def test_owners_of_equal_items_take_turns_however_many_they_have() -> None:
    queue = filled("a1", "a2", "a3", "b1", "c1")
    assert [queue.take() for _ in range(5)] == [["a1"], ["b1"], ["c1"], ["a2"], ["a3"]]


def test_an_owner_who_was_served_waits_for_the_others() -> None:
    queue = filled("a1", "b1")
    assert queue.take() == ["a1"]
    queue.put(b"a", "a2")
    assert [queue.take() for _ in range(2)] == [["b1"], ["a2"]]


def test_owners_share_by_cost_and_not_by_turns() -> None:
    order = served({"l": 10.0, "s": 1.0}, 110)
    assert 90 <= order.count("s") <= 101
    assert "ll" not in order


def test_a_small_item_waits_for_one_large_one_at_most_however_many_there_are() -> None:
    order = served({"l": 4.0, "m": 4.0, "n": 4.0, "s": 1.0}, 70)
    waits = order.split("s")[1:]
    assert max(map(len, waits)) == 1
    assert 39 <= order.count("s") <= 42  # of 70 items, 10 of each large one: a quarter of the cost each


def test_a_large_item_is_not_starved_by_a_stream_of_new_owners() -> None:
    queue = filled()
    queue.put(b"large", "large", 10.0)
    for number in range(5):
        queue.put(f"new {number}".encode(), "new")
    taken = []
    for number in range(100):
        taken += queue.take()
        queue.put(f"later {number}".encode(), "new")
    assert taken.index("large") <= 60  # 10 of cost for it and for each of the five that wait beside it


def test_an_owner_that_was_alone_is_not_made_to_pay_for_it() -> None:
    queue = filled()
    queue.put(b"a", "a1", 100.0)
    assert queue.take() == ["a1"]
    threading.Timer(0.05, lambda: queue.put(b"a", "a2")).start()
    assert queue.take() == ["a2"]  # the queue had been empty
    queue.put(b"a", "a3")
    queue.put(b"b", "b1")
    assert queue.take() == ["a3"]


def test_what_is_remembered_does_not_grow_with_the_number_of_owners() -> None:
    queue = filled("a", "b")
    for number in range(1000):
        queue.take()
        queue.put(str(number).encode(), "new", 1.0 + number % 7)
    assert len(queue._ends) < 50


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


def test_a_closed_queue_takes_and_gives_nothing() -> None:
    queue = filled("a1", "b1")
    queue.close()
    assert queue.put(b"c", "c1") == "nothing is served any more"
    assert queue.take() == []
