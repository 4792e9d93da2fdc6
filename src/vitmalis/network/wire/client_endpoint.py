"""The client's endpoint: it keeps a connection to the server, is polled and never blocks.

Each connection has its own socket, which is closed with it. So messages queued for a lost connection are dropped with
it, and an old offload never reaches a new server late, as it could with ZeroMQ's own reconnection, whose queue outlives
the connection. The price is one small socket per attempt and a back-off of our own.
"""

from __future__ import annotations

import math
import time

import zmq
from msgspec import UNSET

from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.client_connection import ClientConnection
from vitmalis.network.wire.events import (
    Connected,
    Disconnected,
    Event,
    FailureReceived,
    PongReceived,
    ResultReceived,
    VersionMismatch,
)
from vitmalis.network.wire.payloads import unpack_detections
from vitmalis.network.wire.security import ClientKeys
from vitmalis.network.wire.sockets import Waker

_BACK_OFF_S = (0.1, 2.0)
_MESSAGES = 64  # in one poll, so that a server that sends without end cannot keep its caller


class ClientEndpoint:
    """The client's end of the connection; all methods but `wake` must be called from one thread.

    Args:
        client_id: a name for the server's logs.
        buffer_bytes: SO_SNDBUF and SO_RCVBUF; small, since a large send buffer hides how slow the uplink is (0: the
            system's default, for a path whose bandwidth-delay product is larger).
        keys: the client's key pair and its server's public key; None for a server without keys.
        frame_size: (width, height) of the frames that will be sent, see `Hello`; None if not known.
    """

    def __init__(
        self,
        client_id: str = "client",
        buffer_bytes: int = 128 * 1024,
        keys: ClientKeys | None = None,
        frame_size: tuple[int, int] | None = None,
    ) -> None:
        self._context = zmq.Context()
        self._waker = Waker()
        self._hello = m.Hello(client_id, frame_size or UNSET)
        self._buffer_bytes = buffer_bytes
        self._keys = keys
        self._address: str | None = None
        self._connection: ClientConnection | None = None
        self._back_off_s = _BACK_OFF_S[0]
        self._retry_at_s = math.inf
        self.last_error = "not connected yet"
        """Why there is no connection; an empty string while there is one."""

    @property
    def connected(self) -> bool:
        """Whether offloads can be sent now."""
        return self._connection is not None and self._connection.welcomed

    def connect(self, address: str) -> None:
        """Start to connect to `address` (tcp://host:port) and keep trying; `poll` reports the outcome.

        Raises:
            UserError: the address cannot be used.
        """
        self._drop("connecting again")
        self._address = address
        self._open()

    def send_offload(self, offload: m.Offload, payload: bytes) -> bool:
        """Announce and send one compressed frame; False when there is no connection or its send queue is full.

        The announcement may be sent even then; the next one replaces it on the server.
        """
        return self._send(m.Announce(offload.seq)) and self._send(offload, payload)

    def ping(self, nonce: int) -> bool:
        """Request a `PongReceived` with this nonce; False when there is no connection."""
        return self._send(m.Ping(nonce))

    def poll(self, timeout_s: float) -> list[Event]:
        """Return events in order as soon as there are any; an empty list after `timeout_s` or a `wake`."""
        end_s = time.monotonic() + timeout_s
        while True:
            events = self._advance()
            now_s = time.monotonic()
            if events or now_s > end_s:
                return events
            if self._wait(min(end_s, self._next_timer_s()) - now_s):
                return self._advance()

    def wake(self) -> None:
        """End the running `poll`, or else the next one; safe from any thread."""
        self._waker.wake()

    def close(self) -> None:
        """Close the connection and drop what it holds."""
        self._address = None
        self._drop("closed")
        self._waker.close()
        self._context.term()

    def __enter__(self) -> ClientEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: m.ClientMessage, payload: bytes = b"") -> bool:
        return self._connection is not None and self._connection.send(message, payload)

    def _open(self) -> None:
        if self._address is not None:
            self._connection = ClientConnection(
                self._context, self._address, self._hello, self._buffer_bytes, self._keys
            )
            self._retry_at_s = math.inf

    def _drop(self, reason: str) -> list[Event]:
        """Close the connection, if there is one, and schedule the next attempt."""
        connection, self._connection = self._connection, None
        if connection is None:
            return []
        connection.close()
        self.last_error = f"{self._address}: {reason}"
        self._retry_at_s = time.monotonic() + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, _BACK_OFF_S[1])
        return [Disconnected(reason)] if connection.welcomed else []

    def _next_timer_s(self) -> float:
        if self._connection is None:
            return self._retry_at_s
        return math.inf if self._connection.welcomed else self._connection.deadline_s

    def _wait(self, timeout_s: float) -> bool:
        """Wait for something to read; True when woken."""
        poller = zmq.Poller()
        poller.register(self._waker.fileno(), zmq.POLLIN)
        if self._connection is not None:
            poller.register(self._connection.dealer, zmq.POLLIN)
            poller.register(self._connection.monitor, zmq.POLLIN)
        ready = dict(poller.poll(max(0, math.ceil(timeout_s * 1e3))))
        if self._waker.fileno() in ready:
            self._waker.clear()
            return True
        return False

    def _advance(self) -> list[Event]:
        """Do all that can be done now without waiting; return the events."""
        if self._connection is None and time.monotonic() >= self._retry_at_s:
            self._open()
        connection = self._connection
        if connection is None:
            return []
        # The end is looked for first and reported last, so that messages that arrived before it are not lost.
        end_reason = connection.end_reason()
        events: list[Event] = []
        for _ in range(_MESSAGES):
            received = self._receive(connection)
            if received is None:
                break
            events += received
            if self._connection is not connection:
                return events
        else:  # there may be more, for the next poll
            self.wake()
            return events
        return events if end_reason is None else events + self._drop(end_reason)

    def _receive(self, connection: ClientConnection) -> list[Event] | None:
        """Receive the next message; return what it means, or None when there is none."""
        now_s = time.monotonic()
        try:
            frames = connection.receive()
            if frames is None:
                return None
            message, payload = coding.decode_from_server(frames)
            if isinstance(message, m.Result):
                return [ResultReceived(message, unpack_detections(message, payload), now_s)]
        except m.ProtocolVersionError as error:
            self._address = None
            return [*self._drop(str(error)), VersionMismatch(error.theirs)]
        except m.ProtocolError as error:
            return self._drop(f"the server sent a bad message: {error}")
        if isinstance(message, m.Welcome):
            connection.welcomed = True
            self._back_off_s = _BACK_OFF_S[0]
            self.last_error = ""
            return [Connected(message)]
        if isinstance(message, m.Pong):
            return [PongReceived(message.nonce, now_s)]
        failure = FailureReceived(message.seq, message.reason)
        return [failure, *self._drop(message.reason)] if message.reason == m.NO_SESSION else [failure]
