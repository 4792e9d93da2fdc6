"""The server's queue and its one worker on the virtual clock, which all devices of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from vitmalis.regions import ModelGeometry
from vitmalis.server.cost import estimated_cost
from vitmalis.server.fair_queue import FairQueue
from vitmalis.server.worker import Limits
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.offload_timeline import OffloadTimeline

Served = Callable[[float], None]
"""Called when the worker is done with an offload, with the time at which it turned to it, seconds of the run."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """An offload that the server has received."""

    offload: OffloadTimeline
    served: Served


class VirtualWorker:
    """Serves the offloads of all connections one after the other, in the order of the real server's fair queue.

    Args:
        clock: of the run.
        geometry: of the model's regions, by which the cost of an offload is estimated.
        limits: how many offloads may wait.
    """

    def __init__(self, clock: EventQueue, geometry: ModelGeometry, limits: Limits = Limits()) -> None:  # noqa: B008
        self.clock = clock
        self._geometry = geometry
        self._queue: FairQueue[_Request] = FairQueue(limits.queue_capacity, limits.queue_per_client)
        self._connections = 0
        self._waiting: list[_Request] = []
        self._idle, self._free_s = True, 0.0

    def connect(self) -> bytes:
        """Identity of a new connection, whose offloads take turns with those of the others."""
        self._connections += 1
        return str(self._connections).encode()

    def submit(self, peer: bytes, offload: OffloadTimeline, served: Served) -> str | None:
        """Queue an offload that a connection has just delivered; returns None, or why it cannot wait."""
        request = _Request(offload, served)
        full = self._queue.put(peer, request, estimated_cost(offload.answer.header, self._geometry))
        if full is None:
            self._waiting.append(request)
            if self._idle:
                self._serve_next()
        return full

    def free_s(self, under_way: Iterable[OffloadTimeline] = ()) -> float:
        """When the worker is done with all that it has received, and with the offloads that are still on their way."""
        free_s = self._free_s
        received = (request.offload for request in self._waiting)
        for offload in (*received, *sorted(under_way, key=lambda offload: offload.sent.arrived_s)):
            free_s = offload.done_s(free_s)
        return free_s

    def _serve_next(self) -> None:
        """Turn to the next offload in the queue, if there is one."""
        taken = self._queue.take(wait=False)
        self._idle = not taken
        for request in taken:
            self._waiting.remove(request)
            self._free_s = request.offload.done_s(self.clock.now_s)
            self.clock.at(self._free_s, partial(self._done, request, self.clock.now_s))

    def _done(self, request: _Request, served_s: float) -> None:
        request.served(served_s)
        self._serve_next()
