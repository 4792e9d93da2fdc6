"""The relay's event loop: one thread with one `select` that releases bytes when the emulated path would.

`select` because its timeouts are exact to microseconds, while those of epoll and asyncio round up to a millisecond.
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
from typing import Any

from vitmalis.network.addresses import SocketAddress
from vitmalis.network.emulation.delay_queue import DelayQueue, RelayedConnection, Release
from vitmalis.network.emulation.link import Departure
from vitmalis.network.emulation.path import EmulatedPath
from vitmalis.network.interest import NO_DESCRIPTORS, set_interest
from vitmalis.network.wire.peer_log import LogLimit

MIN_QUEUE_BYTES = 16 * 1024
QUEUE_BYTES = 256 * 1024
"""Default of `Relay.queue_bytes`."""

IDLE_S = 0.5
CONNECT_TIMEOUT_MS = 5000
MAX_DESCRIPTOR = 1000  # select() takes none above 1023


class Lateness:
    """Histogram of how late bytes were released, in steps of 0.1 ms."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, late_s: float) -> None:
        """Count one release that was `late_s` seconds late."""
        self._counts[round(late_s * 1e4)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """Lateness that `percent` of the releases do not exceed, ms; None without releases."""
        left = self._counts.total() * percent / 100
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return step / 10
        return None


class Relay:
    """Relays connections between a listening socket and a server over an emulated path.

    Args:
        listener: bound and listening, with its receive buffer already set.
        upstream: the server.
        path: the network to emulate.
        queue_bytes: a client is not read while this much of its data waits for the link.
        origin_s: when the trace's clock started, on the monotonic clock; None: it starts with a client's first byte.
        on_origin: called with that time when the clock starts.
    """

    def __init__(
        self,
        listener: socket.socket,
        upstream: SocketAddress,
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
        self._connections: list[RelayedConnection] = []
        self._origin_s = origin_s
        self._on_origin = on_origin
        self._upstream_down = False
        self._accept_again_s = 0.0
        self._log_limit = LogLimit()
        self._lateness = Lateness()
        self._accepted = self._uplink_bytes = self._downlink_bytes = 0
        listener.setblocking(False)

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
        if time.monotonic() >= self._accept_again_s:
            set_interest(self._selector, self._listener, selectors.EVENT_READ)
        wait_s = min(IDLE_S, max(0.0, self._next_s() - time.monotonic()))
        for key, events in self._selector.select(wait_s):
            if key.data is None:
                self._accept()
            elif key.data in self._connections:  # not closed by something earlier in this turn
                self._handle(key.data, key.fileobj, events)
        self._advance_streams(self._now_ms())
        for connection in list(self._connections):
            self._forward(connection)

    def summary(self) -> dict[str, Any]:
        """Origin of the trace's clock (monotonic s), connections, bytes each way and lateness of releases so far."""
        return {
            "trace_origin_s": self._origin_s,
            "connections": self._accepted,
            "uplink_bytes": self._uplink_bytes,
            "downlink_bytes": self._downlink_bytes,
            "lateness_p50_ms": self._lateness.percentile_ms(50),
            "lateness_p99_ms": self._lateness.percentile_ms(99),
        }

    def _now_ms(self) -> float:
        """Time on the trace's clock, ms; 0 until a client has sent a byte."""
        return 0.0 if self._origin_s is None else (time.monotonic() - self._origin_s) * 1e3

    def _next_s(self) -> float:
        """When the next release or acknowledgement is due, on the monotonic clock."""
        next_s = math.inf
        for connection in self._connections:
            event_s = (self._origin_s or 0.0) + connection.stream.next_event_ms / 1e3
            # A departure matters only where it lets the relay read its client again.
            up_s = connection.up.next_event_s(departures=connection.up.backlog_bytes >= self._queue_bytes)
            next_s = min(next_s, event_s, up_s, connection.down.next_event_s(departures=False))
        return next_s

    def _accept(self) -> None:
        """Accept a client and start to connect to the server on its behalf; make room if there is none."""
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:  # otherwise the client is already gone
                self._make_room()
            return
        try:
            upstream = socket.socket(self._upstream[0], socket.SOCK_STREAM)
        except OSError:
            client.close()
            self._make_room()
            return
        connection = RelayedConnection(client, upstream, self._path.connect())
        if upstream.fileno() >= MAX_DESCRIPTOR:
            connection.close()
            self._make_room()
            return
        for sock in (client, upstream):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # bounds connecting, and notices a server that vanished
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CONNECT_TIMEOUT_MS)
        self._accepted += 1
        self._connections.append(connection)
        status = upstream.connect_ex(self._upstream[1])
        if status not in (0, errno.EINPROGRESS):
            self._refuse(connection, status)
            return
        self._select(connection)

    def _make_room(self) -> None:
        """Close the connection that was silent longest, first of all one that never sent anything.

        Where there is none, stop to accept for a moment instead of trying again and again.
        """
        if self._log_limit.allows("room"):
            _log(f"no descriptors for more than {len(self._connections)} connections: the most silent one is closed")
        if self._connections:
            self._drop(min(self._connections, key=lambda each: each.heard_s))
        else:
            set_interest(self._selector, self._listener, 0)
            self._accept_again_s = time.monotonic() + IDLE_S

    def _refuse(self, connection: RelayedConnection, status: int) -> None:
        """Close a client's connection because the server cannot be reached; log it once."""
        if not self._upstream_down:
            host, port = self._upstream[1][:2]
            reason = errno.errorcode.get(status, status)
            _log(f"server {host}:{port} cannot be reached ({reason}); clients are turned away")
        self._upstream_down = True
        self._drop(connection)

    def _handle(self, connection: RelayedConnection, sock: object, events: int) -> None:
        """Handle one ready socket of a connection."""
        if not connection.connected:
            status = connection.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._refuse(connection, status)
            else:
                connection.connected, self._upstream_down = True, False
        elif events & selectors.EVENT_READ:
            try:
                self._read(connection, connection.up if sock is connection.client else connection.down)
            except OSError:  # reset by either side: nothing that is held can matter any more
                self._drop(connection)

    def _read(self, connection: RelayedConnection, delay_queue: DelayQueue) -> None:
        """Read what has arrived in one direction and schedule its release."""
        size_bytes = delay_queue.read()
        if delay_queue is connection.up:
            connection.heard_s = time.monotonic()
        if size_bytes and delay_queue is connection.up:
            self._send_up(connection, size_bytes)
        elif size_bytes:
            now_s = time.monotonic()
            delay_s = self._path.one_way_delay_ms(self._now_ms()) / 1e3
            delay_queue.schedule([Release(now_s, now_s + delay_s, size_bytes)])
            self._downlink_bytes += size_bytes

    def _send_up(self, connection: RelayedConnection, size_bytes: int) -> None:
        """Put bytes that a client sent on the uplink; the first ones start the trace's clock."""
        if self._origin_s is None:
            self._origin_s = time.monotonic()
            self._on_origin(self._origin_s)
            _log(f"trace clock 0 is {self._origin_s:.6f} s on the monotonic clock")
        self._uplink_bytes += size_bytes
        now_ms = self._now_ms()
        self._advance_streams(now_ms)
        self._schedule(connection, connection.stream.send(now_ms, size_bytes))

    def _advance_streams(self, until_ms: float) -> None:
        """Let acknowledgements come in, in the order of time over all connections, since they share the link."""
        while self._connections:
            connection = min(self._connections, key=lambda each: each.stream.next_event_ms)
            event_ms = connection.stream.next_event_ms
            if event_ms > until_ms:
                return
            self._schedule(connection, connection.stream.advance(event_ms))

    def _schedule(self, connection: RelayedConnection, departures: list[Departure]) -> None:
        origin_s = self._origin_s or 0.0
        connection.up.schedule(
            Release(
                origin_s + departure.time_ms / 1e3,
                origin_s + self._path.arrival_ms(departure.time_ms) / 1e3,
                departure.payload_bytes,
            )
            for departure in departures
        )

    def _forward(self, connection: RelayedConnection) -> None:
        """Write what is due on a connection, and close it once the server has."""
        now_s = time.monotonic()
        for late_s in connection.up.advance(now_s):
            self._lateness.add(late_s)
        connection.down.advance(now_s)
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
            self._select(connection)

    def _select(self, connection: RelayedConnection) -> None:
        """Have `select` report what can be handled now; a side that is not read feels back-pressure."""
        if not connection.connected:
            set_interest(self._selector, connection.upstream, selectors.EVENT_WRITE, connection)
            return
        up, down = connection.up, connection.down
        up_open = not up.ended and not down.ended and up.backlog_bytes < self._queue_bytes
        down_open = not down.ended and down.backlog_bytes < self._queue_bytes
        client_events = up_open * selectors.EVENT_READ | down.blocked * selectors.EVENT_WRITE
        upstream_events = down_open * selectors.EVENT_READ | up.blocked * selectors.EVENT_WRITE
        set_interest(self._selector, connection.client, client_events, connection)
        set_interest(self._selector, connection.upstream, upstream_events, connection)

    def _drop(self, connection: RelayedConnection) -> None:
        for sock in (connection.client, connection.upstream):
            set_interest(self._selector, sock, 0)
        connection.close()
        self._connections.remove(connection)


def _log(message: str) -> None:
    print(f"relay: {message}", file=sys.stderr, flush=True)
