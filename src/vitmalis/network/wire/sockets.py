"""Socket code that both endpoints share: ZeroMQ options, and a way to wake a polling thread."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

import zmq

from vitmalis.network.wire.messages import ProtocolError

_KEPT_FRAMES = 3
"""One more than any message has, so that its receiver sees that there are too many."""
_MAX_DROPPED_FRAMES = 1000
_RECEIVED_OFFSET = 128  # of tcpi_bytes_received in Linux's struct tcp_info
HANDSHAKE_TIMEOUT_S = 60.0
# A cellular uplink can be silent for half a minute, and a heartbeat waits behind the payload being sent; the end of the
# TCP connection reveals a process that exited long before.
_HEARTBEAT_INTERVAL_MS = 10_000
_HEARTBEAT_TIMEOUT_MS = 120_000


class Waker:
    """Wakes a polling thread from another thread or a signal handler, through a socket pair that `zmq.Poller` polls."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """File descriptor that is readable once `wake` was called."""
        return self._reader.fileno()

    def writer_fileno(self) -> int:
        """File descriptor for `signal.set_wakeup_fd`, so that a signal never waits for the end of a poll."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Wake the thread that polls, or its next poll."""
        # A full socket pair is readable already, and a closed one has no thread to wake.
        with suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Discard the calls of `wake` so far."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both sockets of the pair."""
        self._reader.close()
        self._writer.close()


def configure_socket(sock: zmq.Socket) -> None:
    """Set the options that the sockets of client and server have in common."""
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_INTERVAL_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    sock.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_TIMEOUT_S * 1e3))


def receive_message(sock: zmq.Socket) -> list[bytes] | None:
    """Receive the next message without waiting.

    Returns:
        Its frames, of which those after the third are dropped; None when no message has arrived.

    Raises:
        ProtocolError: it has so many frames that the connection should be closed instead of reading them all.
    """
    try:
        frames = [sock.recv(zmq.NOBLOCK)]
    except zmq.Again:
        return None
    dropped = 0
    while sock.getsockopt(zmq.RCVMORE):
        frame = sock.recv(zmq.NOBLOCK)  # there, since ZeroMQ delivers whole messages
        if len(frames) < _KEPT_FRAMES:
            frames.append(frame)
            continue
        dropped += 1
        if dropped > _MAX_DROPPED_FRAMES:
            raise ProtocolError(f"a message of more than {dropped} frames, 1 or 2 are expected")
    return frames


def received_bytes(descriptor: int) -> int:
    """How many bytes a TCP connection has received, also of a message that is not complete; 0 if it is not known.

    Only Linux says so.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except (OSError, ValueError):  # closed, or not open yet
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_OFFSET + 8)
        return int.from_bytes(info[_RECEIVED_OFFSET:], sys.byteorder)
    except (OSError, AttributeError):
        return 0
    finally:
        sock.detach()  # the descriptor is ZeroMQ's
