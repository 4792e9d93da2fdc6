"""ZeroMQ sockets for single connections.

The sockets that ZeroMQ has for many connections (ROUTER, REP) take the names of connections from the peers, and libzmq
4.3.5 aborts the process at a name that it was about to give itself. They can close no single connection, nor say
which of them holds memory. A DEALER of its own for each connection, which only this process can reach, has no names.
"""

from __future__ import annotations

import socket
from pathlib import Path

import zmq

from vitmalis.network.wire.security import ClientAuthenticator, ServerKeys
from vitmalis.network.wire.sockets import configure_socket
from vitmalis.paths import socket_folder

DESCRIPTORS = 5
"""File descriptors that a connection takes: the client's, both ends of the inner one, its listener, a mailbox."""


class Dealers:
    """Makes ZeroMQ sockets that are connected to a socket of this process each.

    Args:
        capacity: most sockets at a time.
        max_frame_bytes: a connection with a larger frame is closed by ZeroMQ.
        keys: the server's key pair and its clients; None serves anyone, without encryption.
    """

    def __init__(self, capacity: int, max_frame_bytes: int, keys: ServerKeys | None) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, capacity + 64)
        self._max_frame_bytes = max_frame_bytes
        self.authenticator = None if keys is None else ClientAuthenticator(self._context, keys)

    def make(self) -> tuple[zmq.Socket, socket.socket]:
        """Make a ZeroMQ socket, and the socket whose bytes it speaks ZMTP with; neither blocks.

        Raises:
            OSError: there are no descriptors left (`zmq.ZMQError` is one).
        """
        with socket_folder() as folder:
            return self._connected(folder / "inner")

    def _connected(self, path: Path) -> tuple[zmq.Socket, socket.socket]:
        """Make both sockets, connected over a Unix socket at `path`, which may go away then."""
        dealer = self._context.socket(zmq.DEALER)
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            configure_socket(dealer)
            dealer.setsockopt(zmq.RCVHWM, 4)
            dealer.setsockopt(zmq.SNDHWM, 64)
            dealer.setsockopt(zmq.MAXMSGSIZE, self._max_frame_bytes)
            if self.authenticator is not None:
                self.authenticator.secure(dealer)
            dealer.bind(f"ipc://{path}")
            inner.connect(str(path))
            inner.setblocking(False)
        except (zmq.ZMQError, OSError):
            inner.close()
            dealer.close(0)
            raise
        return dealer, inner

    def close(self) -> None:
        """Free what is left after all sockets are closed."""
        if self.authenticator is not None:
            self.authenticator.close()
        self._context.term()
