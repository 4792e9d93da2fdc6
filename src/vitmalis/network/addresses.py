"""TCP addresses, parsed in one place, so that client, server and relay take and refuse the same ones."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address
from typing import Any

SCHEME = "tcp://"
MAX_PORT = 65_535
MAX_NAME = 253
"""Longest host name, characters."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")

SocketAddress = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Address family, and the address as Python's sockets take it."""


def split_address(address: str) -> tuple[str, int]:
    """Split `tcp://host:port` or `host:port` into host, without the brackets of IPv6, and port.

    Raises:
        ValueError: it is neither, or has a port that does not exist.
    """
    host, _, port = address.removeprefix(SCHEME).rpartition(":")
    if not (port.isascii() and port.isdigit()) or not _is_host(host):
        raise ValueError("it is not host:port")
    if len(port) > 5 or int(port) > MAX_PORT:  # libzmq would take the lowest 16 bits
        raise ValueError(f"ports end at {MAX_PORT}")
    return host.strip("[]"), int(port)


def _is_host(text: str) -> bool:
    """Whether a text is a host name, an IPv4 address, an IPv6 address in brackets, or `*`."""
    if text.startswith("[") and text.endswith("]"):
        return _is_ipv6(text[1:-1])
    return text == "*" or (len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def split_target(address: str) -> tuple[str, int]:
    """Split the address of a server to connect to; see `split_address`.

    Raises:
        ValueError: it is no address, or one at which a server can listen but none be reached.
    """
    host, port = split_address(address)
    if host == "*":
        raise ValueError("* is where a server listens: name its host")
    if port == 0:
        raise ValueError("port 0 is where a server takes a free port: give that port")
    return host, port


def join_address(host: str, port: int) -> str:
    """The address tcp://host:port, with brackets for IPv6."""
    return f"{SCHEME}[{host}]:{port}" if ":" in host else f"{SCHEME}{host}:{port}"


def resolve(address: str) -> SocketAddress:
    """Resolve an address; the host `*` stands for every IPv4 address of this machine.

    Raises:
        ValueError: it is no address, or this machine does not know the host.
    """
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo("0.0.0.0" if host == "*" else host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(getattr(error, "strerror", None) or str(error)) from error
    family, _, _, _, target = found[0]
    return family, target


def listen(address: str, receive_buffer_bytes: int | None = None) -> socket.socket:
    """Listen at an address; port 0 takes a free one.

    Args:
        address: tcp://host:port or host:port.
        receive_buffer_bytes: SO_RCVBUF of the accepted sockets; None for the system's default.

    Raises:
        ValueError: it is no address, or this machine does not know the host.
        OSError: it is taken, or no address of this machine.
    """
    family, target = resolve(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        listener.bind(target)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def bound_address(listener: socket.socket) -> str:
    """The address of a listening socket, tcp://host:port."""
    host, port = listener.getsockname()[:2]
    return join_address(host, port)
