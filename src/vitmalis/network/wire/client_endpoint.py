"""The client's endpoint: a ZeroMQ DEALER that is polled and never blocks.

Each connection has its own socket, which is closed with it. So messages queued for a lost connection are dropped with
it, and an old offload never reaches a new server late, as it could with ZeroMQ's own reconnection, whose queue outlives
the connection. The price is one small socket per attempt and a back-off of our own.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack

import zmq
from msgspec import UNSET
from zmq.utils.monitor import recv_monitor_message

from vitmalis.errors import UserError
from vitmalis.network.addresses import join_address, split_target
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
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
from vitmalis.network.wire.sockets import HANDSHAKE_TIMEOUT_S, Waker, configure_socket, receive_message, received_bytes

_BACK_OFF_S = (0.1, 2.0)
_MAX_UNFINISHED_BYTES = 4 * 2**20  # of a message; the largest valid one has 0.7 MB
_MESSAGES = 64  # in one poll, so that a server that sends without end cannot keep its caller
_CONNECT_TIMEOUT_S = 5.0
_HANDSHAKE_FAILURES = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed (another server's key, or only one side has keys?)",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what listens there does not speak ZeroMQ (or only one side has keys)",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the server does not know the key of this client",
}
_CONNECTION_ENDS = {
    zmq.EVENT_CLOSED: "nothing listens there",
    zmq.EVENT_DISCONNECTED: "the connection was closed",
    **_HANDSHAKE_FAILURES,
}


class _DealerConnection:
    """A DEALER and its monitor for the life of one TCP connection; creating one starts the handshake."""

    def __init__(
        self, context: zmq.Context, address: str, hello: m.Hello, buffer_bytes: int, keys: ClientKeys | None
    ) -> None:
        self.welcomed = False
        self._end_reason: str | None = None
        self._descriptor = -1  # of the TCP connection, once there is one
        self._read_bytes = 0  # received on it up to the last complete message
        self.deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S + 1.0
        with ExitStack() as sockets:  # one that stays open would keep the context from ending
            self.dealer = context.socket(zmq.DEALER)
            sockets.callback(self.dealer.close, 0)
            self.monitor = self.dealer.get_monitor_socket(zmq.EVENT_CONNECTED | sum(_CONNECTION_ENDS))
            sockets.callback(self.monitor.close, 0)
            sockets.callback(self.dealer.disable_monitor)
            self._configure(buffer_bytes, keys)
            self._connect(address)
            self.dealer.send_multipart(coding.encode(hello), zmq.NOBLOCK)
            self._sockets = sockets.pop_all()

    def _configure(self, buffer_bytes: int, keys: ClientKeys | None) -> None:
        configure_socket(self.dealer)
        if keys is not None:
            keys.secure(self.dealer)
        # An hour means never here, since this connection is closed long before. With -1, ZeroMQ's own "never", one in
        # five clients whose server had died hung in the context's `term` (libzmq 4.3.5), with an hour none of forty.
        self.dealer.setsockopt(zmq.RECONNECT_IVL, 3_600_000)
        self.dealer.setsockopt(zmq.CONNECT_TIMEOUT, round(_CONNECT_TIMEOUT_S * 1e3))
        self.dealer.setsockopt(zmq.SNDHWM, 4)  # two offloads with their announcements
        self.dealer.setsockopt(zmq.RCVHWM, 16)
        self.dealer.setsockopt(zmq.MAXMSGSIZE, m.MAX_HEADER_BYTES + m.MAX_RESULT_BYTES)
        if buffer_bytes:
            self.dealer.setsockopt(zmq.SNDBUF, buffer_bytes)
            self.dealer.setsockopt(zmq.RCVBUF, buffer_bytes)

    def _connect(self, address: str) -> None:
        try:
            host, port = split_target(address)
            self.dealer.setsockopt(zmq.IPV6, ":" in host)
            self.dealer.connect(join_address(host, port))
        except (zmq.ZMQError, ValueError) as error:
            reason = zmq.strerror(error.errno or 0) if isinstance(error, zmq.ZMQError) else error
            raise UserError(
                f"server address '{address}' cannot be used ({reason}): write it like tcp://127.0.0.1:5555"
            ) from error

    def end_reason(self) -> str | None:
        """Why this connection has ended, or None while it has not; the same answer from its end on."""
        if self._end_reason is None:
            self._end_reason = self._find_end()
        return self._end_reason

    def _find_end(self) -> str | None:
        while self.monitor.poll(0):
            message = recv_monitor_message(self.monitor)
            event = message["event"]
            if event == zmq.EVENT_DISCONNECTED and not self.welcomed:
                return "the connection was closed before the handshake was done (if only one side has keys, it is)"
            if event in _CONNECTION_ENDS:
                return _CONNECTION_ENDS[event]
            self._descriptor = message["value"]
            self.deadline_s = time.monotonic() + HANDSHAKE_TIMEOUT_S  # connected, the handshake begins
        if not self.welcomed and time.monotonic() > self.deadline_s:
            return "no answer to the handshake"
        return None

    def receive(self) -> list[bytes] | None:
        """Frames of the next message, or None when none is complete.

        Raises:
            ProtocolError: it has very many frames, or is far larger than any valid one and still not complete.
        """
        frames = receive_message(self.dealer)
        total_bytes = received_bytes(self._descriptor)
        if frames is not None:
            self._read_bytes = total_bytes
        elif total_bytes - self._read_bytes > _MAX_UNFINISHED_BYTES:
            raise m.ProtocolError(f"a message of more than {_MAX_UNFINISHED_BYTES} bytes")
        return frames

    def close(self) -> None:
        """Close the socket and drop what it holds."""
        self._sockets.close()


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
        self._connection: _DealerConnection | None = None
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
        if self._connection is None or not self._connection.welcomed:
            return False
        try:
            self._connection.dealer.send_multipart(coding.encode(message, payload), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _open(self) -> None:
        if self._address is not None:
            self._connection = _DealerConnection(
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

    def _receive(self, connection: _DealerConnection) -> list[Event] | None:
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
            return [*self._drop(str(error)), VersionMismatch(m.PROTOCOL, error.theirs)]
        except m.ProtocolError as error:
            return self._drop(f"the server sent a bad message: {error}")
        if isinstance(message, m.Welcome):
            connection.welcomed = True
            self._back_off_s = _BACK_OFF_S[0]
            self.last_error = ""
            return [Connected(message)]
        if isinstance(message, m.Pong):
            return [PongReceived(message.nonce, now_s)]
        failure = FailureReceived(message.seq, message.reason, now_s)
        return [failure, *self._drop(message.reason)] if message.reason == m.NO_SESSION else [failure]
