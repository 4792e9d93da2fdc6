"""What both ends of a connection share: socket options, and a way to wake a thread that polls."""

from __future__ import annotations

import socket
from contextlib import suppress

import zmq

HANDSHAKE_TIMEOUT_S = 60.0
# A cellular uplink can be silent for half a minute, and a heartbeat waits behind the payload being sent; a peer that
# died is noticed long before by the end of its TCP connection.
_HEARTBEAT_INTERVAL_MS = 10_000
_HEARTBEAT_TIMEOUT_MS = 120_000


class Waker:
    """Ends a poll from another thread or a signal handler: a socket pair, which `zmq.Poller` watches like a socket."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable once `wake` was called."""
        return self._reader.fileno()

    def writer_fileno(self) -> int:
        """What `signal.set_wakeup_fd` can be given, so that a signal never waits for the end of a poll."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Make the reader readable. A full pair is awake already, a closed one has nobody to wake."""
        with suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Forget the calls of `wake` so far."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


def configure(end: zmq.Socket) -> None:
    """Options of both ends."""
    end.setsockopt(zmq.LINGER, 0)
    end.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_INTERVAL_MS)
    end.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    end.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_TIMEOUT_S * 1e3))
