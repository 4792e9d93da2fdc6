"""Whether a server answers, for the health checks of containers: `python -m vitmalis.server.health tcp://edge:5555`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from vitmalis.command_line import CommandLine
from vitmalis.network.addresses import split_target
from vitmalis.server.framing import SIGNATURE_BYTES, is_signature

_SIGNATURE = b"\xff" + bytes(SIGNATURE_BYTES - 2) + b"\x7f"
"""What a ZeroMQ peer sends first and is answered with; keys come later, so that a check needs none."""


def is_healthy(address: str, timeout_s: float) -> bool:
    """Whether a server at tcp://host:port greets a new connection; a supervisor whose server has ended does not.

    Raises:
        ValueError: it is no such address.
    """
    try:
        with socket.create_connection(split_target(address), timeout_s) as connection:
            connection.sendall(_SIGNATURE)
            answer = connection.recv(SIGNATURE_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == SIGNATURE_BYTES and is_signature(answer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check as the command line says; returns the exit status: 0 healthy, 1 not, 2 for a user's mistake."""
    parser = CommandLine(
        "python -m vitmalis.server.health",
        "Check whether a server answers; exit status 0 if it does, 1 if not. It needs no key.",
        {"": "a server on this machine", "tcp://edge:5555 --timeout 2": "one on another machine, within two seconds"},
    )
    parser.add_argument(
        "address", nargs="?", metavar="ADDRESS", default="tcp://127.0.0.1:5555", help="address of the server"
    )
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for an answer")
    options = parser.parse_args(arguments)
    try:
        healthy = is_healthy(options.address, options.timeout)
    except ValueError as error:
        print(f"error: address '{options.address}': {error}", file=sys.stderr)
        return 2
    print("healthy" if healthy else f"no server answers at {options.address}")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
