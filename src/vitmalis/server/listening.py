"""The server's listening socket."""

from __future__ import annotations

import socket

from vitmalis.errors import UserError
from vitmalis.network.addresses import listen
from vitmalis.network.wire.security import is_local


def open_listener(address: str, *, secured: bool) -> socket.socket:
    """Listen at a server's address.

    Args:
        address: tcp://host:port; port 0 takes a free one.
        secured: whether it may be open to other machines, because there are keys or the user insists.

    Raises:
        UserError: the address cannot be bound, or is open to other machines and not secured.
    """
    try:
        if secured or is_local(address):
            return listen(address)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"server address '{address}' cannot be bound ({reason}); port 0 takes a free one") from error
    raise UserError(
        f"server address '{address}' is open to other machines and there are no keys: make some with python -m "
        "vitmalis.keys and give --keys, listen on 127.0.0.1, or say --insecure to serve anyone who can connect"
    )
