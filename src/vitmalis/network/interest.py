"""What a selector watches a socket for, changed in one call."""

from __future__ import annotations

import selectors
from typing import Any


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
