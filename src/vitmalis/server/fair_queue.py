"""Fair queueing: owners share the thread that serves them by the cost of their items, not by their number.

With turns by number, the sender of large frames would get many times as much as the sender of small ones, who would
wait for all of it. Here virtual time measures how much each waiting owner would have received if all were served at
once at equal rates. An item is eligible once its service would have begun in that order, and of the eligible items the
one whose service would end first is next (worst-case fair weighted fair queueing; Bennett and Zhang, 1996).
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    """An item with the virtual times at which equal rates would begin and end its service, and a number for ties."""

    item: Item
    start: float
    end: float
    number: int


class FairQueue(Generic[Item]):
    """A bounded queue in which owners share by cost; any thread may put items, one thread takes them.

    Args:
        capacity: most items that may wait in total.
        per_owner: most items of one owner that may wait.
    """

    def __init__(self, capacity: int, per_owner: int) -> None:
        self._capacity, self._per_owner = capacity, per_owner
        self._waiting: dict[bytes, deque[_Waiting[Item]]] = {}
        self._now = 0.0  # virtual time, in units of cost
        self._ends: dict[bytes, float] = {}  # of the last item of each owner that is ahead of virtual time
        self._numbers = itertools.count()
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, owner: bytes, item: Item, cost: float = 1.0) -> str | None:
        """Queue an item and return None, or return why it cannot wait, as a message to its owner."""
        with self._changed:
            if self._closed:
                return "nothing is served any more"
            own = self._waiting.get(owner, ())
            if len(own) >= self._per_owner:
                return f"{len(own)} offloads of this client wait already"
            if self._count >= self._capacity:
                return f"{self._count} offloads of {len(self._waiting)} clients wait already"
            start = max(self._now, self._ends.get(owner, 0.0))
            self._ends[owner] = start + cost
            waiting = _Waiting(item, start, start + cost, next(self._numbers))
            self._waiting.setdefault(owner, deque()).append(waiting)
            self._count += 1
            self._changed.notify()
            return None

    def take(
        self, limit: int = 1, alike: Callable[[Item, Item], bool] = lambda *_: True, wait: bool = True
    ) -> list[Item]:
        """Wait for the next item; take it, and with it the next item of each other owner that is alike.

        Args:
            limit: most items to take.
            alike: whether the second item may be taken together with the first.
            wait: whether to wait where nothing is queued.

        Returns:
            Items in the order of turns; an empty list once the queue is closed, or where nothing was to be waited for.
        """
        with self._changed:
            if not self._count:
                self._ends.clear()  # who was ahead used time that no other client wanted
            self._changed.wait_for(lambda: self._count or self._closed or not wait)
            taken: list[_Waiting[Item]] = []
            active = len(self._waiting)
            for owner in self._in_turn():
                own = self._waiting[owner]
                if len(taken) < limit and (not taken or alike(taken[0].item, own[0].item)):
                    taken.append(own.popleft())
                    if not own:
                        del self._waiting[owner]
            self._count -= len(taken)
            if taken:
                self._advance(sum(each.end - each.start for each in taken) / active)
            return [each.item for each in taken]

    def close(self) -> None:
        """Drop all waiting items; from now on `put` takes none, and `take` returns an empty list."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._count = 0
            self._changed.notify_all()

    def _in_turn(self) -> list[bytes]:
        """Owners that wait, the next one first."""
        if self._waiting:
            self._now = max(self._now, min(own[0].start for own in self._waiting.values()))

        def turn(owner: bytes) -> tuple[bool, float, int]:
            first = self._waiting[owner][0]
            return first.start > self._now, first.end, first.number

        return sorted(self._waiting, key=turn)

    def _advance(self, received: float) -> None:
        """Advance virtual time by the cost that each owner has received at equal rates."""
        self._now += received
        self._ends = {owner: end for owner, end in self._ends.items() if owner in self._waiting or end > self._now}
