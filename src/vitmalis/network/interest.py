"""What a selector watches a socket for, and what happens when there are no file descriptors for more sockets."""

from __future__ import annotations

import errno
import selectors
from typing import Any

NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of a listening socket that cannot accept: what waits there stays ready, so that a loop would spin."""


def set_interest(selector: selectors.BaseSelector, sock: Any, events: int, data: Any = None) -> None:
    """Have a selector report these events of a socket, with this data; with 0 it no longer watches the socket."""
    key = selector.get_map().get(sock)
    if key is None:
        if events:
            selector.register(sock, events, data)
    elif not events:
        selector.unregister(sock)
    elif key.events != events:
        selector.modify(sock, events, data)
