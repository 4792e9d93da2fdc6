"""One connection of a client: a ZeroMQ DEALER and its monitor, for the life of one TCP connection."""

from __future__ import annotations

import time
from contextlib import ExitStack

import zmq
from zmq.utils.monitor import recv_monitor_message

from vitmalis.errors import UserError
from vitmalis.network.addresses import join_address, split_target
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.security import ClientKeys
from vitmalis.network.wire.sockets import HANDSHAKE_TIMEOUT_S, configure_socket, receive_message, received_bytes

_MAX_UNFINISHED_BYTES = 4 * 2**20  # of a message; the largest valid one has 0.7 MB
_CONNECT_TIMEOUT_S = 5.0
_ENDS = {
    zmq.EVENT_CLOSED: "nothing listens there",
    zmq.EVENT_DISCONNECTED: "the connection was closed",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed (another server's key, or only one side has keys?)",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what listens there does not speak ZeroMQ (or only one side has keys)",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the server does not know the key of this client",
}
"""Events of the monitor at which the connection has ended, and what each means."""


class ClientConnection:
    """A DEALER and its monitor for the life of one TCP connection; creating one starts the handshake.

    Args:
        context: of the sockets.
        address: of the server, tcp://host:port.
        hello: the first message.
        buffer_bytes, keys: as of `ClientEndpoint`.

    Raises:
        UserError: the address cannot be used.
        zmq.ZMQError: there are no descriptors left, or ZeroMQ takes no such keys.

    Attributes:
        dealer, monitor: become readable once `receive` or `end_reason` has something to do.
        welcomed: whether the server has answered the handshake; set by the owner, who reads the messages.
        deadline_s: latest time of that answer on the monotonic clock.
    """

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
            self.monitor = self.dealer.get_monitor_socket(zmq.EVENT_CONNECTED | sum(_ENDS))
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
            if event in _ENDS:
                return _ENDS[event]
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

    def send(self, message: m.ClientMessage, payload: bytes = b"") -> bool:
        """Send a message without waiting; False before the end of the handshake, or when the send queue is full."""
        if not self.welcomed:
            return False
        try:
            self.dealer.send_multipart(coding.encode(message, payload), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Close the socket and drop what it holds."""
        self._sockets.close()
