"""A device's offloads on the virtual clock: over its own connection to the server that it shares with other devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vitmalis.client.events import OffloadRefused, ResultArrived, StartOffload
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection
from vitmalis.virtual.offload_timeline import OffloadTimeline, simulate_offload
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.worker import VirtualWorker

Answered = Callable[[ResultArrived | OffloadRefused], None]
"""Called with each answer when it arrives."""


class VirtualOffloading:
    """Sends offloads, lets the server's worker serve them, and hands over the answers.

    Args:
        server: what it makes of each offload.
        worker: serves it.
        connection: to the server.
        durations: how long each stage takes.
        answered: called with each answer; those to offloads of a closed connection do not arrive.
    """

    def __init__(
        self,
        server: VirtualServer,
        worker: VirtualWorker,
        connection: Connection,
        durations: Durations,
        answered: Answered,
    ) -> None:
        self._server = server
        self._worker = worker
        self._clock = worker.clock
        self._connection = connection
        self._durations = durations
        self._answered = answered
        self._peer = worker.connect()
        self._under_way: list[OffloadTimeline] = []

    def start(self, start: StartOffload) -> OffloadTimeline:
        """Send an offload; returns when each step of it up to the server happens."""
        answer = self._server.answer(start.offload_id, start.frame, start.decision)
        offload = simulate_offload(
            start, answer, now_s=self._clock.now_s, connection=self._connection, durations=self._durations
        )
        peer = self._peer
        self._under_way.append(offload)
        self._clock.at(offload.sent.arrived_s, lambda: self._arrive(peer, offload))
        return offload

    def reconnect(self) -> float:
        """Open another connection and return when it can be used.

        What the closed one has not delivered is discarded; what the server has received still keeps its worker busy.
        """
        self._peer = self._worker.connect()
        self._server.disconnect()
        self._under_way.clear()
        return self._connection.reconnect(self._clock.now_s)

    def server_free_s(self) -> float:
        """When the server has nothing left to do, as far as is known without the next offloads of other devices."""
        return self._worker.free_s(offload for offload in self._under_way if not offload.answer.refusal)

    def _arrive(self, peer: bytes, offload: OffloadTimeline) -> None:
        """Let the server admit an offload that its connection has delivered, or refuse it."""
        if peer != self._peer:
            return
        self._under_way.remove(offload)
        if refusal := offload.answer.refusal or self._queue(peer, offload):
            self._send(peer, lambda _: OffloadRefused(offload.start.offload_id, refusal))

    def _queue(self, peer: bytes, offload: OffloadTimeline) -> str:
        """Queue an offload for the worker; returns why it cannot wait, empty if it can."""
        full = self._worker.submit(peer, offload, lambda served_s: self._send(peer, partial(offload.result, served_s)))
        return "" if full is None else f"busy: {full}"

    def _send(self, peer: bytes, answer: Callable[[float], ResultArrived | OffloadRefused]) -> None:
        """Send the answer that arrives at the time which it is called with, unless its connection is closed."""
        if peer == self._peer:
            received_s = self._connection.download(self._clock.now_s)
            self._clock.at(received_s, lambda: self._answered(answer(received_s)))
