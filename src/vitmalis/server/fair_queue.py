"""Who is served next when several clients wait: one offload of each in turn, however many one of them sends."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items wait by owner; owners take turns. Any thread may put, one takes.

    Args:
        capacity: items that may wait in all.
        per_owner: items that may wait of one owner.
    """

    def __init__(self, capacity: int, per_owner: int) -> None:
        self._capacity, self._per_owner = capacity, per_owner
        self._waiting: OrderedDict[bytes, deque[Item]] = OrderedDict()  # the owner served longest ago comes first
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, owner: bytes, item: Item) -> str | None:
        """Queue an item; or say, for its owner, why it cannot wait."""
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
        """Wait for the next item, and take along what is like it, at most one of each owner.

        Args:
            limit: items at most.
            alike: whether the second item may go with the first.

        Returns:
            Items in the order of turns; none once the queue is closed.
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
                        self._waiting[owner] = own  # its next turn comes after everyone else's
            self._count -= len(taken)
            return taken

    def close(self) -> None:
        """Drop what waits and let `take` return nothing."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._count = 0
            self._changed.notify_all()
