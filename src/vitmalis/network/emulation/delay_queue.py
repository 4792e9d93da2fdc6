"""What the relay holds: bytes on their way in one direction, and the two directions of a connection."""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from vitmalis.network.emulation.path import Stream

READ_BYTES = 16 * 1024
"""Read at once: little, so that connections share the uplink in small turns."""


class Passage(NamedTuple):
    """Bytes that leave the queue and are released at the other end together; seconds on the monotonic clock."""

    departure_s: float
    release_s: float
    size_bytes: int


class Lane:
    """One direction: bytes read from `source`, held until their release times, then written to `sink`.

    What it holds is queued until it departs, then under way until it is released, then due until `sink` takes it. Bytes
    without a passage yet (a closed window) count as queued.
    """

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.ended = False  # the source has sent its last byte
        self.blocked = False  # the sink did not take what is due
        self._shut = False
        self._held = bytearray()
        self._queued: deque[Passage] = deque()
        self._under_way: deque[Passage] = deque()
        self._under_way_bytes = 0
        self._due_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """Bytes held that are not under way: what a sender can be made to wait for."""
        return len(self._held) - self._under_way_bytes

    @property
    def in_transit(self) -> bool:
        """Whether anything is still to be released."""
        return len(self._held) > self._due_bytes

    def next_s(self, backlog_counts: bool) -> float:
        """When `tick` next has something to do: release bytes or, if the backlog counts, shorten it."""
        first = self._under_way or self._queued
        release_s = first[0].release_s if first else math.inf
        return min(release_s, self._queued[0].departure_s) if backlog_counts and self._queued else release_s

    def read(self) -> int:
        """Take what the source has, at most `READ_BYTES`; 0 at its end or when it has nothing.

        Raises:
            OSError: the source is gone.
        """
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        self.ended = not data
        self._held += data
        return len(data)

    def schedule(self, passages: Iterable[Passage]) -> None:
        """Say when the next bytes pass."""
        self._queued.extend(passages)

    def tick(self, now_s: float) -> list[float]:
        """Let time pass; return how late each release is, seconds."""
        while self._queued and self._queued[0].departure_s <= now_s:
            passage = self._queued.popleft()
            self._under_way.append(passage)
            self._under_way_bytes += passage.size_bytes
        late_s = []
        while self._under_way and self._under_way[0].release_s <= now_s:
            passage = self._under_way.popleft()
            self._under_way_bytes -= passage.size_bytes
            self._due_bytes += passage.size_bytes
            late_s.append(now_s - passage.release_s)
        return late_s

    def flush(self) -> None:
        """Write what is due; after the last byte of an ended source, tell the sink.

        Raises:
            OSError: the sink is gone.
        """
        self.blocked = False
        if self._due_bytes:
            with memoryview(self._held) as held, held[: self._due_bytes] as due:
                try:
                    sent = self.sink.send(due)
                except BlockingIOError:
                    sent = 0
            del self._held[:sent]
            self._due_bytes -= sent
            self.blocked = self._due_bytes > 0
        if self.ended and not self._held and not self._shut:
            self._shut = True
            self.sink.shutdown(socket.SHUT_WR)


class Connection:
    """A client's connection and its counterpart to the server."""

    def __init__(self, client: socket.socket, upstream: socket.socket, stream: Stream) -> None:
        self.client = client
        self.upstream = upstream
        self.stream = stream
        self.up = Lane(client, upstream)
        self.down = Lane(upstream, client)
        self.connected = False

    @property
    def finished(self) -> bool:
        """Whether the server has closed and what it sent before has passed; what the client still sends is void."""
        return self.down.ended and not self.down.in_transit

    def close(self) -> None:
        """Close both sockets; the peers see it at once."""
        for end in (self.client, self.upstream):
            with suppress(OSError):
                end.close()
