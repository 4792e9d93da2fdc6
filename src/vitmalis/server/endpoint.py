"""The server's endpoint: a ZeroMQ ROUTER that is polled and never blocks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import zmq

from vitmalis.errors import UserError
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.security import ClientAuthenticator, ServerKeys, is_local
from vitmalis.network.wire.sockets import Waker, configure_socket

_REBIND_S = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """A client's message with its payload, or the error in it; `received_s` is `time.monotonic()` at its receipt."""

    peer: bytes
    content: m.ClientMessage | m.ProtocolError
    payload: bytes
    received_s: float


class ServerEndpoint:
    """The server's end of all connections, bound when created; all methods but `wake` must be called from one thread.

    Args:
        address: tcp://host:port; port 0 takes a free one.
        max_payload_bytes: larger payloads are refused with an answer; those of more than twice the size close their
            connection, so that memory stays bounded.
        keys: the server's key pair and its clients; None serves anyone who can connect, without encryption.
        insecure: serve without keys even at an address that other machines can reach.

    Raises:
        UserError: the address cannot be bound, or is open to other machines and there are no keys.
    """

    def __init__(
        self,
        address: str,
        max_payload_bytes: int = m.MAX_PAYLOAD_BYTES,
        keys: ServerKeys | None = None,
        *,
        insecure: bool = False,
    ) -> None:
        if keys is None and not insecure and not is_local(address):
            raise UserError(
                f"server address '{address}' is open to other machines and there are no keys: make some with python -m "
                "vitmalis.keys and give --keys, listen on 127.0.0.1, or say --insecure to serve anyone who can connect"
            )
        self._max_payload_bytes = max_payload_bytes
        self._context = zmq.Context()
        self.waker = Waker()
        self._authenticator = None if keys is None else ClientAuthenticator(self._context, keys)
        self.address = address
        """The bound address, with the actual port."""
        try:
            self._router = self._bound_router()
        except UserError:
            self._close_rest()
            raise

    def _bound_router(self) -> zmq.Socket:
        router = self._context.socket(zmq.ROUTER)
        configure_socket(router)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.RCVHWM, 4)
        router.setsockopt(zmq.SNDHWM, 64)
        router.setsockopt(zmq.MAXMSGSIZE, 2 * self._max_payload_bytes)
        if self._authenticator is not None:
            self._authenticator.secure(router)
        try:
            router.bind(self.address)
        except zmq.ZMQError as error:
            router.close(0)
            reason = zmq.strerror(error.errno or 0)
            raise UserError(
                f"server address '{self.address}' cannot be bound ({reason}); port 0 takes a free one"
            ) from error
        self.address = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller = zmq.Poller()
        self._poller.register(router, zmq.POLLIN)
        self._poller.register(self.waker.fileno(), zmq.POLLIN)
        return router

    @property
    def refused_handshakes(self) -> int:
        """Number of handshakes refused because the client's key is unknown."""
        return 0 if self._authenticator is None else self._authenticator.refused

    def reset(self) -> None:
        """Close all connections, drop everything they hold, and listen again at the same address."""
        self._router.close(0)
        deadline_s = time.monotonic() + _REBIND_S
        while True:
            try:
                self._router = self._bound_router()
                return
            except UserError:  # ZeroMQ releases an address some time after `close`
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)

    def poll(self, timeout_s: float, limit: int = 64) -> list[Received]:
        """Return up to `limit` messages as soon as there are any; an empty list after `timeout_s` or a `wake`."""
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1e3)))
        if self.waker.fileno() in ready:
            self.waker.clear()
        arrived: list[Received] = []
        while len(arrived) < limit:
            try:
                peer, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            arrived.append(self._decode(peer, frames))
        return arrived

    def send(self, peer: bytes, message: m.ServerMessage, payload: bytes = b"") -> bool:
        """Send a message to a client; False when it is gone or does not read its messages."""
        try:
            self._router.send_multipart([peer, *m.encode(message, payload)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True

    def wake(self) -> None:
        """End the running `poll`, or else the next one; safe from any thread and in a signal handler."""
        self.waker.wake()

    def close(self) -> None:
        """Unbind, and drop all queued messages."""
        self._router.close(0)
        self._close_rest()

    def _close_rest(self) -> None:
        if self._authenticator is not None:
            self._authenticator.close()
        self.waker.close()
        self._context.term()

    def __enter__(self) -> ServerEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, peer: bytes, frames: list[bytes]) -> Received:
        now_s = time.monotonic()
        try:
            message, payload = m.decode_from_client(frames, self._max_payload_bytes)
        except m.ProtocolError as error:
            return Received(peer, error, b"", now_s)
        return Received(peer, message, payload, now_s)
