"""The server's endpoint: accepts connections, bounds what they cost, and receives and sends their messages."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from vitmalis.network.addresses import bound_address
from vitmalis.network.interest import NO_DESCRIPTORS, set_interest
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.peer_log import LogLimit, quoted
from vitmalis.network.wire.security import ServerKeys
from vitmalis.network.wire.sockets import Waker
from vitmalis.process import descriptor_limit
from vitmalis.server.connection import Connection, ConnectionEnded
from vitmalis.server.dealers import DESCRIPTORS, Dealers
from vitmalis.server.listening import open_listener

MAX_CONNECTIONS = 1024
"""Most connections at a time; fewer where the process may open few files."""
FIRST_MESSAGE_S = 10.0
"""A connection without a message for so long after its start is closed."""
_RESERVED_DESCRIPTORS = 128  # for the model, logs and libraries
_CHECK_S = 0.5
_ACCEPTS = 64  # in one turn
_MESSAGES = 16  # of one connection in one turn
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A client's message with its payload, or the error in it; `received_s` is `time.monotonic()` at its receipt."""

    peer: bytes
    content: m.ClientMessage | m.ProtocolError
    payload: bytes
    received_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a connection; no message of this peer follows."""

    peer: bytes


class ServerEndpoint:
    """The server's end of all connections; all methods but `wake` must be called from one thread.

    Args:
        listener: address to bind (see `open_listener`), or a socket that listens already.
        max_payload_bytes: larger payloads are refused with an answer; those of more than twice the size close their
            connection, so that memory stays bounded.
        keys: the server's key pair and its clients; None serves anyone who can connect, without encryption.
        insecure: serve without keys even at an address that other machines can reach.
        max_connections: beyond them the one that has come least far, or else was silent longest, is closed.

    Raises:
        UserError: the address cannot be bound, or is open to other machines and there are no keys.

    Attributes:
        address: the bound address, with the actual port.
        closed: number of connections that were closed from here, by reason: overdue (no message in time), crowded (to
            make room), oversized (more than a message may have), malformed (not ZeroMQ), failed (an error here).
    """

    def __init__(
        self,
        listener: str | socket.socket,
        max_payload_bytes: int = m.MAX_PAYLOAD_BYTES,
        keys: ServerKeys | None = None,
        *,
        insecure: bool = False,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        secured = keys is not None or insecure
        self._listener = open_listener(listener, secured=secured) if isinstance(listener, str) else listener
        self._listener.setblocking(False)
        self.address = bound_address(self._listener)
        self.closed: Counter[str] = Counter()
        self.waker = Waker()
        self._max_payload_bytes = max_payload_bytes
        room = (descriptor_limit() - _RESERVED_DESCRIPTORS) // DESCRIPTORS
        self._capacity = max(1, min(max_connections, room))
        self._dealers = Dealers(self._capacity, 2 * max_payload_bytes, keys)
        self._connections: dict[bytes, Connection] = {}
        self._to_read: dict[bytes, Connection] = {}  # those whose ZeroMQ socket may have messages
        self._ended: list[Closed] = []
        self._accepted = 0
        self._next_check_s = 0.0
        self._log_limit = LogLimit()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self.waker.fileno(), selectors.EVENT_READ, self.waker.clear)
        if (authenticator := self._dealers.authenticator) is not None:
            self._selector.register(authenticator, selectors.EVENT_READ, authenticator.answer)

    @property
    def refused_handshakes(self) -> int:
        """Number of handshakes refused because the client's key is unknown."""
        return 0 if self._dealers.authenticator is None else self._dealers.authenticator.refused

    def poll(self, timeout_s: float, limit: int = 64) -> list[Received | Closed]:
        """Return some `limit` events as soon as there are any; an empty list after `timeout_s` or a `wake`."""
        end_s = time.monotonic() + timeout_s
        while True:
            wait_s = 0.0 if self._to_read else max(0.0, min(end_s - time.monotonic(), _CHECK_S))
            ready = self._selector.select(wait_s)
            woken = any(key.fileobj == self.waker.fileno() for key, _ in ready)
            for key, _ in ready:
                key.data()
            if time.monotonic() > self._next_check_s:
                self._check()
            events = self._receive(limit)
            if events or woken or time.monotonic() >= end_s:
                return events

    def send(self, peer: bytes, message: m.ServerMessage, payload: bytes = b"") -> bool:
        """Send a message to a client; False when it is gone or does not read its messages."""
        connection = self._connections.get(peer)
        if connection is None:
            return False
        self._read_next(connection)  # since sending may take in the news that messages have arrived
        return connection.send(coding.encode(message, payload))

    def disconnect(self, peer: bytes) -> None:
        """Close a client's connection, if it is still there."""
        if (connection := self._connections.get(peer)) is not None:
            self._close(connection, ConnectionEnded("closed by the server"))

    def close_largest(self) -> bool:
        """Close the connection that holds most bytes of an unfinished message; False if none holds a megabyte."""
        largest = max(self._connections.values(), key=lambda each: each.unread_bytes, default=None)
        if largest is None or largest.unread_bytes < 2**20:
            return False
        self._close(largest, ConnectionEnded("memory is short and its message is unfinished", "oversized"))
        return True

    def reset(self) -> None:
        """Close all connections and drop everything they hold."""
        for connection in list(self._connections.values()):
            self._close(connection, ConnectionEnded("all connections are closed"))

    def wake(self) -> None:
        """End the running `poll`, or else the next one; safe from any thread and in a signal handler."""
        self.waker.wake()

    def close(self) -> None:
        """Stop listening, and drop all connections."""
        self.reset()
        self._selector.close()
        self._listener.close()
        self.waker.close()
        self._dealers.close()

    def __enter__(self) -> ServerEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    self._make_room(0)
                return  # or else the client is already gone
            self._make_room(self._capacity - 1)
            self._open(client)

    def _open(self, client: socket.socket) -> None:
        self._accepted += 1
        name = b"%d" % self._accepted
        try:
            connection = Connection(name, client, self._dealers.make, 2 * self._max_payload_bytes + m.MAX_HEADER_BYTES)
        except OSError:  # the client is already gone
            client.close()
            return
        self._connections[name] = connection
        self._watch(connection)

    def _make_room(self, count: int) -> None:
        """Close connections until there are at most `count`, or one where `count` is 0 and descriptors have run out."""
        if count == 0 and not self._connections:
            set_interest(self._selector, self._listener, 0)  # until the next check
        while self._connections and len(self._connections) > count:
            least = min(self._connections.values(), key=lambda each: (each.stage, each.heard_s))
            self._close(least, ConnectionEnded("too many connections, and it was silent longest", "crowded"))
            if count == 0:
                return

    def _advance(self, connection: Connection) -> None:
        if connection.name not in self._connections:  # closed by something earlier in this turn
            return
        with self._guarded(connection):
            dealer = connection.advance()
            if dealer is not None:
                self._selector.register(dealer, selectors.EVENT_READ, partial(self._read_next, connection))
            self._watch(connection)

    def _read_next(self, connection: Connection) -> None:
        """Have `_receive` read from a connection, if it is still open."""
        if connection.name in self._connections:
            self._to_read[connection.name] = connection

    @contextmanager
    def _guarded(self, connection: Connection) -> Iterator[None]:
        """Close the connection where the block finds its end, or fails: nothing about one connection ends others."""
        try:
            yield
        except ConnectionEnded as end:
            self._close(connection, end)
        except Exception as error:
            self._close(connection, ConnectionEnded(f"{type(error).__name__}: {error}", "failed"))

    def _watch(self, connection: Connection) -> None:
        """Have the selector report what `connection` can do something about."""
        for sock, events in connection.interests:
            set_interest(self._selector, sock, events, partial(self._advance, connection))

    def _receive(self, limit: int) -> list[Received | Closed]:
        """Receive messages, a few of each connection in turn, and report the ends of connections."""
        events: list[Received | Closed] = []
        for name, connection in list(self._to_read.items()):
            if len(events) >= limit:
                break
            del self._to_read[name]
            self._receive_from(connection, events)
        events += self._ended
        self._ended = []
        return events

    def _receive_from(self, connection: Connection, events: list[Received | Closed]) -> None:
        with self._guarded(connection):
            for _ in range(_MESSAGES):
                frames = connection.receive()
                if frames is None:
                    return
                events.append(self._decode(connection.name, frames))
            self._read_next(connection)

    def _decode(self, peer: bytes, frames: list[bytes]) -> Received:
        now_s = time.monotonic()
        try:
            message, payload = coding.decode_from_client(frames, self._max_payload_bytes)
        except m.ProtocolError as error:
            return Received(peer, error, b"", now_s)
        return Received(peer, message, payload, now_s)

    def _close(self, connection: Connection, end: ConnectionEnded) -> None:
        """Close a connection that is open; count and log it if that was decided here."""
        if self._connections.pop(connection.name, None) is None:
            return
        if end.kind:
            self.closed[end.kind] += 1
            if self._log_limit.allows(end.kind):
                _log.warning("connection %s was closed (%s): %s", connection.name.decode(), end.kind, quoted(end))
        self._to_read.pop(connection.name, None)
        for sock in connection.sockets:
            set_interest(self._selector, sock, 0)
        connection.close()
        self._ended.append(Closed(connection.name))

    def _check(self) -> None:
        """Close the connections that are overdue, and listen again after a pause."""
        self._next_check_s = time.monotonic() + _CHECK_S
        overdue_s = time.monotonic() - FIRST_MESSAGE_S
        for connection in list(self._connections.values()):
            if connection.stage < 2 and connection.heard_s < overdue_s:
                reason = f"no message within {FIRST_MESSAGE_S:g} s"
                self._close(connection, ConnectionEnded(reason, "overdue"))
        set_interest(self._selector, self._listener, selectors.EVENT_READ, self._accept)
