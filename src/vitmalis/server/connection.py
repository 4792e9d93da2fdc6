"""One client's connection: its bytes pass through here to a ZeroMQ socket of its own, and are bounded on the way."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import zmq

from vitmalis.network.wire import messages as m
from vitmalis.network.wire.sockets import receive_message
from vitmalis.server.framing import SIGNATURE_BYTES, FrameCounter, is_signature

CHUNK_BYTES = 64 * 1024
"""Most bytes that are passed on in one turn, so that connections share the receiving thread in small turns."""
FIRST_BYTES = 2 * m.MAX_HEADER_BYTES
"""Most bytes before the first complete message: a handshake and `Hello` are far smaller."""
MAX_UNREAD_FRAMES = 65_536
"""Most frames, commands included, without a complete message; libzmq takes 64 bytes for each."""

MakeDealer = Callable[[], tuple[zmq.Socket, socket.socket]]


class ConnectionEnded(Exception):
    """The connection has to be closed, or was closed by the client; `kind` is for counts."""

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.kind = kind


class _Forwarding:
    """Bytes on their way from one socket to another, a chunk at a time."""

    def __init__(self, source: socket.socket, sink: socket.socket, waiting: bytes = b"") -> None:
        self._source, self._sink = source, sink
        self.waiting = waiting

    def advance(self, inspect: Callable[[bytes], None] = lambda _: None) -> None:
        """Read a chunk once the last one is written, have it inspected, and write what the sink takes.

        Raises:
            ConnectionEnded: one of the sockets was closed, or by `inspect`.
        """
        try:
            if not self.waiting:
                data = self._source.recv(CHUNK_BYTES)
                if not data:
                    raise ConnectionEnded("closed by the peer")
                inspect(data)
                self.waiting = data
            self.waiting = self.waiting[self._sink.send(self.waiting) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionEnded(error.strerror or "reset") from error


class Connection:
    """A client's TCP connection, and the ZeroMQ socket that understands its bytes.

    The ZeroMQ socket is made once the client has sent the first bytes of ZMTP, so that idle connections cost little.

    Args:
        name: never used for another connection.
        client: the accepted socket.
        make_dealer: makes the ZeroMQ socket.
        max_message_bytes: a message that is larger ends the connection before it is complete.

    Attributes:
        messages: how many messages have been received.
        heard_s: when the last one was, or the connection was opened, on the monotonic clock.
        unread_bytes, unread_frames: received since then; what libzmq holds of an unfinished message is part of it.
    """

    def __init__(self, name: bytes, client: socket.socket, make_dealer: MakeDealer, max_message_bytes: int) -> None:
        self.name = name
        self.client = client
        self.inner: socket.socket | None = None
        self.dealer: zmq.Socket | None = None
        self.messages = self.unread_bytes = self.unread_frames = 0
        self.heard_s = time.monotonic()
        self._make_dealer = make_dealer
        self._max_message_bytes = max_message_bytes
        self._signature = b""
        self._frames = FrameCounter()
        self._up = self._down = _Forwarding(client, client)  # until there is an inner socket
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def stage(self) -> int:
        """How far the client has come: 0 without a ZMTP signature, 1 without a message, 2."""
        return 0 if self.dealer is None else 1 + (self.messages > 0)

    @property
    def sockets(self) -> list[socket.socket | zmq.Socket]:
        """The sockets that are open, of either kind."""
        return [sock for sock in (self.client, self.inner, self.dealer) if sock is not None]

    @property
    def interests(self) -> list[tuple[socket.socket, int]]:
        """The sockets, each with what has to happen to it before `advance` has something to do."""
        up, down = bool(self._up.waiting), bool(self._down.waiting)
        if self.inner is None:
            return [(self.client, selectors.EVENT_READ)]
        return [(self.client, _events(not up, down)), (self.inner, _events(not down, up))]

    def advance(self) -> zmq.Socket | None:
        """Pass on what can be passed on without waiting; return the ZeroMQ socket if it was made just now.

        Raises:
            ConnectionEnded: the client closed the connection, or exceeded a bound.
        """
        if self.inner is None:
            return self._read_signature()
        self._down.advance()  # first, so that the client still gets the reason if ZeroMQ has closed the inner socket
        self._up.advance(self._count)
        return None

    def receive(self) -> list[bytes] | None:
        """Frames of the next message, or None when none is complete.

        Raises:
            ConnectionEnded: the message has very many frames.
        """
        if self.dealer is None:
            return None
        try:
            frames = receive_message(self.dealer)
        except m.ProtocolError as error:
            raise ConnectionEnded(str(error), "oversized") from error
        if frames is not None:
            self.messages += 1
            self.unread_bytes = self.unread_frames = 0
            self.heard_s = time.monotonic()
        return frames

    def send(self, frames: list[bytes]) -> bool:
        """Send a message; False when the client does not read its messages."""
        if self.dealer is None:
            return False
        try:
            self.dealer.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Close all sockets and drop what they hold."""
        with suppress(OSError):  # with bytes left unread TCP would report a reset to the client, not an end
            self.client.recv(CHUNK_BYTES)
        for sock in self.sockets:
            with suppress(OSError):
                sock.close()  # a ZeroMQ socket too drops what it holds, since none lingers

    def _read_signature(self) -> zmq.Socket | None:
        try:
            data = self.client.recv(SIGNATURE_BYTES - len(self._signature))
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConnectionEnded("reset by the peer") from error
        if not data:
            raise ConnectionEnded("closed by the peer")
        self._signature += data
        if len(self._signature) < SIGNATURE_BYTES:
            return None
        if not is_signature(self._signature):
            raise ConnectionEnded("not ZeroMQ", "malformed")
        try:
            self.dealer, self.inner = self._make_dealer()
        except OSError as error:
            raise ConnectionEnded(f"no ZeroMQ socket ({error.strerror})", "crowded") from error
        self._up = _Forwarding(self.client, self.inner, self._signature)
        self._down = _Forwarding(self.inner, self.client)
        return self.dealer

    def _count(self, data: bytes) -> None:
        """Count bytes and frames that are about to be passed on; raise `ConnectionEnded` beyond a bound."""
        try:
            self.unread_frames += self._frames.count(data)
        except ValueError as error:
            raise ConnectionEnded(str(error), "malformed") from error
        self.unread_bytes += len(data)
        limit = self._max_message_bytes if self.messages else FIRST_BYTES
        if self.unread_bytes > limit:
            raise ConnectionEnded(f"more than {limit} bytes without a complete message", "oversized")
        if self.unread_frames > MAX_UNREAD_FRAMES:
            raise ConnectionEnded(f"more than {MAX_UNREAD_FRAMES} frames without a complete message", "oversized")


def _events(read: bool, write: bool) -> int:
    return read * selectors.EVENT_READ | write * selectors.EVENT_WRITE
