"""Peers that speak ZMTP, ZeroMQ's protocol on TCP (RFC 23), by hand, so that they can break its rules."""

from __future__ import annotations

import socket
import struct

from vitmalis.network.addresses import split_address
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m

TIMEOUT_S = 30.0
"""Longest that a peer waits for the other side."""

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""ZMTP 3.0 without security."""
_FIRST_ROUTER_ID = 0x6B8B4567  # with glibc's rand() as it starts


def plain(address: str) -> socket.socket:
    """A TCP connection that has sent nothing."""
    return socket.create_connection(split_address(address), timeout=TIMEOUT_S)


def frame(body: bytes = b"", *, more: bool = False, command: bool = False) -> bytes:
    """One frame: a command, or a part of a message, which goes on if there is `more`."""
    flags = more * 1 | command * 4
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def ready(identity: bytes = b"") -> bytes:
    """The handshake of a DEALER, which may choose the name that a ROUTER gives it."""
    return frame(b"\x05READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", identity), command=True)


def zmtp(address: str, identity: bytes = b"") -> socket.socket:
    """A connection whose handshake is done; libzmq takes messages before its end for an error."""
    raw = plain(address)
    raw.sendall(GREETING + ready(identity))
    _receive(raw, len(GREETING))
    _, body_bytes = _receive(raw, 2)
    _receive(raw, body_bytes)
    return raw


def router_id(number: int) -> bytes:
    """The id that a ROUTER of libzmq 4.3.5 gives its connection `number`; it aborts if a peer has claimed that id."""
    return b"\0" + struct.pack(">I", _FIRST_ROUTER_ID + number)


def _receive(raw: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = raw.recv(count - len(data))
        if not part:
            raise ConnectionError("closed in the handshake")
        data += part
    return data


def hello(name: str = "raw") -> bytes:
    """The message that opens a session."""
    return frame(coding.encode(m.Hello(name))[0])


def closed_by_peer(raw: socket.socket) -> bool:
    """Whether the other side closes the connection; what it sends before is dropped."""
    try:
        while raw.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
