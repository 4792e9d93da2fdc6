"""What is logged about peers: their text cannot forge lines, and their number of lines is limited."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable

MAX_LOGGED_CHARS = 300
_BURST = 20
_INTERVAL_S = 60.0


def quoted(text: object) -> str:
    """Text that a peer had a part in, in quotes, cut, and without line breaks or control characters."""
    shown = str(text)
    more = len(shown) - MAX_LOGGED_CHARS
    return repr(shown) if more <= 0 else f"{shown[:MAX_LOGGED_CHARS]!r} and {more} characters more"


class LogLimit:
    """A limit on log lines of each kind, so that no peer can fill the disk: twenty at once, then one a minute.

    Args:
        clock: seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s: defaultdict[str, float] = defaultdict(lambda: -math.inf)

    def allows(self, kind: str) -> bool:
        """Whether one more line of this kind may be logged now; it counts as logged."""
        now_s = self._clock()
        next_s = max(self._next_s[kind], now_s - (_BURST - 1) * _INTERVAL_S)
        if next_s > now_s:
            return False
        self._next_s[kind] = next_s + _INTERVAL_S
        return True
