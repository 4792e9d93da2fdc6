"""The newest image of the live view: one that encodes it, any number that wait for it, none that is queued."""

from __future__ import annotations

import threading
from collections.abc import Iterator


class NewestImage:
    """The newest encoded image, for watchers that each take it at their own pace.

    Attributes:
        watched: set while there are watchers; without them nothing needs to be encoded.
    """

    def __init__(self) -> None:
        self.watched = threading.Event()
        self._changed = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self._watchers = 0
        self._closed = False

    def put(self, jpeg: bytes) -> None:
        """Replace the image; one that a watcher has not taken yet is gone for it."""
        with self._changed:
            self._jpeg, self._number = jpeg, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let every watcher end after the last image."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def watch(self) -> Iterator[bytes]:
        """Yield the newest image, then each that follows while the watcher is ready for it, until it is closed."""
        seen = 0
        self._count(1)
        try:
            while True:
                with self._changed:
                    while self._number == seen and not self._closed:
                        self._changed.wait()
                    if self._number == seen:
                        return
                    jpeg, seen = self._jpeg, self._number
                yield jpeg
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._watchers += change
            if self._watchers:
                self.watched.set()
            else:
                self.watched.clear()
