"""The relay's loop: one thread, one `select`, bytes pass when the emulated path would let them.

`select` because its timeouts are exact to microseconds, where those of epoll and asyncio round up to a millisecond.
"""

from __future__ import annotations

import errno
import math
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vitmalis.network.emulation.delay_queue import Connection, Lane, Passage
from vitmalis.network.emulation.link import Departure
from vitmalis.network.emulation.path import EmulatedPath

QUEUE_BYTES = 256 * 1024
"""A client is not read while this much of its data waits for the link."""

IDLE_S = 0.5
CONNECT_TIMEOUT_MS = 5000
MAX_DESCRIPTOR = 1000  # select() takes none above 1023

Upstream = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Family and address of the server."""


class Lateness:
    """How late bytes were released, counted in steps of 0.1 ms."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, late_s: float) -> None:
        """Count one release."""
        self._counts[round(late_s * 1e4)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """Lateness that `percent` of the releases do not exceed; None without any."""
        left = self._counts.total() * percent / 100
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return step / 10
        return None


class Relay:
    """Relays connections between a listening socket and a server, over an emulated path.

    Args:
        listener: bound and listening; its receive buffer was set before.
        upstream: the server.
        path: the network to emulate; its clock starts with the first byte from a client.
        queue_bytes: a client is not read while this much of its data waits for the link.
        origin_s: when the trace's clock started, on the monotonic clock; None: it starts with the first byte.
        on_origin: told when it starts.
    """

    def __init__(
        self,
        listener: socket.socket,
        upstream: Upstream,
        path: EmulatedPath,
        queue_bytes: int = QUEUE_BYTES,
        *,
        origin_s: float | None = None,
        on_origin: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._listener = listener
        self._upstream = upstream
        self._path = path
        self._queue_bytes = queue_bytes
        self._selector = selectors.SelectSelector()
        self._connections: list[Connection] = []
        self._origin_s = origin_s
        self._on_origin = on_origin
        self._upstream_down = False
        self._lateness = Lateness()
        self._accepted = self._uplink_bytes = self._downlink_bytes = 0
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until an exception (a signal handler's) ends it."""
        try:
            while True:
                self.step()
        finally:
            for connection in self._connections:
                connection.close()
            self._listener.close()

    def step(self) -> None:
        """Wait for a socket or the next release, and handle what there is."""
        wait_s = min(IDLE_S, max(0.0, self._next_s() - time.monotonic()))
        for key, events in self._selector.select(wait_s):
            if key.data is None:
                self._accept()
            elif key.data in self._connections:  # else something earlier in this turn has closed it
                self._serve(key.data, key.fileobj, events)
        self._advance(self._now_ms())
        for connection in list(self._connections):
            self._release(connection)

    def summary(self) -> dict[str, Any]:
        """What it did: origin of the trace's clock (monotonic s), connections, bytes each way, lateness of releases."""
        return {
            "trace_origin_s": self._origin_s,
            "connections": self._accepted,
            "uplink_bytes": self._uplink_bytes,
            "downlink_bytes": self._downlink_bytes,
            "lateness_p50_ms": self._lateness.percentile_ms(50),
            "lateness_p99_ms": self._lateness.percentile_ms(99),
        }

    def _now_ms(self) -> float:
        """The trace's clock: 0 until a client has sent a byte."""
        return 0.0 if self._origin_s is None else (time.monotonic() - self._origin_s) * 1e3

    def _next_s(self) -> float:
        """When the next release or acknowledgement is due, on the monotonic clock."""
        next_s = math.inf
        for connection in self._connections:
            event_s = (self._origin_s or 0.0) + connection.stream.next_event_ms / 1e3
            up_s = connection.up.next_s(backlog_counts=connection.up.backlog_bytes >= self._queue_bytes)
            next_s = min(next_s, event_s, up_s, connection.down.next_s(backlog_counts=False))
        return next_s

    def _accept(self) -> None:
        """Take a client and start connecting to the server on its behalf."""
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        upstream = socket.socket(self._upstream[0], socket.SOCK_STREAM)
        connection = Connection(client, upstream, self._path.connect())
        if upstream.fileno() >= MAX_DESCRIPTOR:
            _log(f"refused a connection: {len(self._connections)} are open, more than select() can watch")
            connection.close()
            return
        for end in (client, upstream):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # bounds connecting, and notices a server that vanished
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CONNECT_TIMEOUT_MS)
        self._accepted += 1
        self._connections.append(connection)
        status = upstream.connect_ex(self._upstream[1])
        if status not in (0, errno.EINPROGRESS):
            self._refuse(connection, status)
            return
        self._watch(connection)

    def _refuse(self, connection: Connection, status: int) -> None:
        """Close a client's connection because the server cannot be reached; say so once."""
        if not self._upstream_down:
            host, port = self._upstream[1][:2]
            reason = errno.errorcode.get(status, status)
            _log(f"server {host}:{port} cannot be reached ({reason}); clients are turned away")
        self._upstream_down = True
        self._drop(connection)

    def _serve(self, connection: Connection, end: object, events: int) -> None:
        """Handle one ready socket."""
        if not connection.connected:
            status = connection.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._refuse(connection, status)
            else:
                connection.connected, self._upstream_down = True, False
        elif events & selectors.EVENT_READ:
            try:
                self._read(connection, connection.up if end is connection.client else connection.down)
            except OSError:  # reset by either peer: nothing that is held can matter any more
                self._drop(connection)

    def _read(self, connection: Connection, lane: Lane) -> None:
        """Take what a peer sent and say when it passes."""
        size_bytes = lane.read()
        if not size_bytes:
            return
        if lane is connection.down:
            now_s = time.monotonic()
            delay_s = self._path.one_way_delay_ms(self._now_ms()) / 1e3
            lane.schedule([Passage(now_s, now_s + delay_s, size_bytes)])
            self._downlink_bytes += size_bytes
            return
        if self._origin_s is None:
            self._origin_s = time.monotonic()
            self._on_origin(self._origin_s)
            _log(f"trace clock 0 is {self._origin_s:.6f} s on the monotonic clock")
        self._uplink_bytes += size_bytes
        now_ms = self._now_ms()
        self._advance(now_ms)
        self._schedule(connection, connection.stream.send(now_ms, size_bytes))

    def _advance(self, until_ms: float) -> None:
        """Let acknowledgements come in, in the order of time over all connections: they share the link."""
        while self._connections:
            connection = min(self._connections, key=lambda each: each.stream.next_event_ms)
            event_ms = connection.stream.next_event_ms
            if event_ms > until_ms:
                return
            self._schedule(connection, connection.stream.advance(event_ms))

    def _schedule(self, connection: Connection, departures: list[Departure]) -> None:
        origin_s = self._origin_s or 0.0
        connection.up.schedule(
            Passage(
                origin_s + departure.time_ms / 1e3,
                origin_s + self._path.arrival_ms(departure.time_ms) / 1e3,
                departure.payload_bytes,
            )
            for departure in departures
        )

    def _release(self, connection: Connection) -> None:
        """Pass on what is due on a connection, and close it when the server has."""
        now_s = time.monotonic()
        for late_s in connection.up.tick(now_s):
            self._lateness.add(late_s)
        connection.down.tick(now_s)
        try:
            connection.down.flush()
            if not connection.down.ended:
                connection.up.flush()
        except OSError:
            self._drop(connection)
            return
        if connection.finished:
            self._drop(connection)
        else:
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Have `select` report what can be handled now; a peer that is not read feels back-pressure."""
        if not connection.connected:
            self._interest(connection.upstream, connection, read=False, write=True)
            return
        up, down = connection.up, connection.down
        up_open = not up.ended and not down.ended and up.backlog_bytes < self._queue_bytes
        down_open = not down.ended and down.backlog_bytes < self._queue_bytes
        self._interest(connection.client, connection, read=up_open, write=down.blocked)
        self._interest(connection.upstream, connection, read=down_open, write=up.blocked)

    def _interest(self, end: socket.socket, connection: Connection, read: bool, write: bool) -> None:
        events = read * selectors.EVENT_READ | write * selectors.EVENT_WRITE
        key = self._selector.get_map().get(end)
        if key is None:
            if events:
                self._selector.register(end, events, connection)
        elif not events:
            self._selector.unregister(end)
        elif key.events != events:
            self._selector.modify(end, events, connection)

    def _drop(self, connection: Connection) -> None:
        for end in (connection.client, connection.upstream):
            with suppress(KeyError):
                self._selector.unregister(end)
        connection.close()
        self._connections.remove(connection)


def _log(message: str) -> None:
    print(f"relay: {message}", file=sys.stderr, flush=True)
