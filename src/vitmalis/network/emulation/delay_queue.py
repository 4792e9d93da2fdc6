"""The bytes that the relay holds: a delay queue for each direction of a relayed connection."""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from vitmalis.network.emulation.path import Stream

READ_BYTES = 16 * 1024
"""Most bytes that are read in one turn: few, so that connections share the uplink in small turns."""


class Release(NamedTuple):
    """Bytes that leave the link together and are released to the receiver together; seconds on the monotonic clock."""

    departure_s: float
    release_s: float
    size_bytes: int


class DelayQueue:
    """One direction of a connection: bytes read from `source`, held until their release times, then written to `sink`.

    Bytes are queued until they depart from the link, in transit until they are released, and due until `sink` takes
    them. Bytes without a scheduled release (a closed congestion window holds them back) count as queued.
    """

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.ended = False  # the source has sent its last byte
        self.blocked = False  # the sink did not take what is due
        self._shut = False
        self._held = bytearray()
        self._queued: deque[Release] = deque()
        self._in_transit: deque[Release] = deque()
        self._in_transit_bytes = 0
        self._due_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """Bytes held that are not in transit: what a sender can be made to wait for."""
        return len(self._held) - self._in_transit_bytes

    @property
    def unreleased_bytes(self) -> int:
        """Bytes held that are not due yet."""
        return len(self._held) - self._due_bytes

    def next_event_s(self, *, departures: bool) -> float:
        """Time of the next release or, with `departures`, of the next release or departure; infinity without any."""
        first = self._in_transit or self._queued
        release_s = first[0].release_s if first else math.inf
        return min(release_s, self._queued[0].departure_s) if departures and self._queued else release_s

    def read(self) -> int:
        """Read what the source has, at most `READ_BYTES`, and return how much; 0 at its end or when it has nothing.

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

    def schedule(self, releases: Iterable[Release]) -> None:
        """Schedule the release of the next bytes that have none yet."""
        self._queued.extend(releases)

    def advance(self, now_s: float) -> list[float]:
        """Let time pass until `now_s`; return how late each release is, seconds."""
        while self._queued and self._queued[0].departure_s <= now_s:
            release = self._queued.popleft()
            self._in_transit.append(release)
            self._in_transit_bytes += release.size_bytes
        late_s = []
        while self._in_transit and self._in_transit[0].release_s <= now_s:
            release = self._in_transit.popleft()
            self._in_transit_bytes -= release.size_bytes
            self._due_bytes += release.size_bytes
            late_s.append(now_s - release.release_s)
        return late_s

    def flush(self) -> None:
        """Write what is due, and close the sink for writing after the last byte of an ended source.

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


class RelayedConnection:
    """A client's connection to the relay and the relay's connection to the server on its behalf.

    Attributes:
        heard_s: when the client last sent something, on the monotonic clock; minus infinity before.
    """

    def __init__(self, client: socket.socket, upstream: socket.socket, stream: Stream) -> None:
        self.client = client
        self.upstream = upstream
        self.stream = stream
        self.up = DelayQueue(client, upstream)
        self.down = DelayQueue(upstream, client)
        self.connected = False
        self.heard_s = -math.inf

    @property
    def finished(self) -> bool:
        """Whether the server has closed and all that it sent is released: the client's bytes no longer matter."""
        return self.down.ended and not self.down.unreleased_bytes

    def close(self) -> None:
        """Close the sockets to client and server."""
        for sock in (self.client, self.upstream):
            with suppress(OSError):
                sock.close()
