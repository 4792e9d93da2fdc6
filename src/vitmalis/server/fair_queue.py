"""Fair queueing: the clients that wait are served in turn, one item each, however many one of them sends."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """A bounded queue in which the owners of items take turns; any thread may put items, one thread takes them.

    Args:
        capacity: most items that may wait in total.
        per_owner: most items of one owner that may wait.
    """

    def __init__(self, capacity: int, per_owner: int) -> None:
        self._capacity, self._per_owner = capacity, per_owner
        self._waiting: OrderedDict[bytes, deque[Item]] = OrderedDict()  # the owner served longest ago comes first
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, owner: bytes, item: Item) -> str | None:
        """Queue an item and return None, or return why it cannot wait, as a message to its owner."""
        with self._changed:
            own = self._waiting.get(owner, ())
            if len(own) >= self._per_owner:
                return f"{len(own)} offloads of this client wait already"
            if self._count >= self._capacity:
                return f"{self._count} offloads of {len(self._waiting)} clients wait already"
            self._waiting.setdefault(owner, deque()).append(item)
            self._count += 1
            self._changed.notify()
            return None

    def take(self, limit: int = 1, alike: Callable[[Item, Item], bool] = lambda *_: True) -> list[Item]:
        """Wait for the next item; take it, and with it the next item of each other owner that is alike.

        Args:
            limit: most items to take.
            alike: whether the second item may be taken together with the first.

        Returns:
            Items in the order of turns; an empty list once the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._count or self._closed)
            taken: list[Item] = []
            for owner in list(self._waiting):
                own = self._waiting[owner]
                if len(taken) < limit and (not taken or alike(taken[0], own[0])):
                    taken.append(own.popleft())
                    del self._waiting[owner]
                    if own:
                        self._waiting[owner] = own  # its next turn comes after those of all others
            self._count -= len(taken)
            return taken

    def close(self) -> None:
        """Drop all waiting items and have `take` return an empty list from now on."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._count = 0
            self._changed.notify_all()
