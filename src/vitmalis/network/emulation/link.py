"""The bottleneck of the emulated path: a trace-driven link, which says when a packet leaves it.

Mahimahi's semantics (R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015), packet for
packet: a trace is a list of delivery opportunities of 1504 bytes, each at a millisecond. The rest of an opportunity
serves the next packet if that packet is already queued; a packet departs with its last byte; unused opportunities are
lost; a packet that arrives in millisecond `a` can only use opportunities later than `a`; at its end the trace starts
again, shifted by its last timestamp.

On a byte axis where opportunity k owns bytes [1504 k, 1504 (k + 1)), all of this is one rule: a packet starts at the
end of the previous one or at the first opportunity after its arrival, whichever is later. So a packet, or a message of
any number of packets, takes one binary search or two, however long the link was idle.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.network.traces import OPPORTUNITY_BYTES, Trace
from vitmalis.network.traces.opportunities import Opportunities

SEGMENT_BYTES = 1448
"""TCP payload of a full segment: 1500 bytes of IP packet less 20 of IP and 32 of TCP header with timestamps."""

HEADER_BYTES = OPPORTUNITY_BYTES - SEGMENT_BYTES
"""Bytes of a segment on the link in addition to its payload: 52 of headers and 4 of Mahimahi's TUN device."""


def wire_bytes(payload_bytes: int) -> int:
    """Bytes on the link for a message of `payload_bytes`, cut into segments."""
    return payload_bytes + HEADER_BYTES * -(-payload_bytes // SEGMENT_BYTES)


class TraceLink:
    """A FIFO link with an infinite queue, driven by delivery opportunities; it has no clock of its own.

    Packets are served in the order of the calls, so callers that share a link call in the order of arrival.

    Args:
        opportunities: delivery opportunities of one period.
        period_ms: length of the trace, at least the last opportunity; by default just that, as in Mahimahi.

    Raises:
        UserError: the last opportunity is later than the period.
    """

    def __init__(self, opportunities: Opportunities, period_ms: int | None = None) -> None:
        self._opportunities = opportunities
        last_ms = opportunities.time_ms(len(opportunities) - 1)
        self._period_ms = last_ms if period_ms is None else period_ms
        if self._period_ms < last_ms:
            raise UserError(f"the trace lasts {period_ms} ms but has an opportunity at {last_ms} ms: lengthen it")
        self._end = 0  # byte position at which the last packet ended

    @classmethod
    def of(cls, trace: Trace) -> TraceLink:
        """The uplink of a trace, without its round-trip times."""
        return cls(trace.opportunities(), trace.period_ms)

    def __deepcopy__(self, _: object) -> TraceLink:
        """A link in the same state, which shares the opportunities, since they never change."""
        return copy.copy(self)

    @property
    def period_ms(self) -> int:
        """Length of the trace, after which the opportunities repeat."""
        return self._period_ms

    def depart(self, arrival_ms: float, size_bytes: int) -> int:
        """Queue a packet, or several that arrive together; return the millisecond in which the last byte leaves.

        Args:
            arrival_ms: arrival at the queue, ms from the origin of the trace, >= 0; rounded down to whole milliseconds.
            size_bytes: IP bytes plus the TUN header, > 0; of several packets the sum.
        """
        self._end = self._start(arrival_ms) + size_bytes
        return self._time_ms((self._end - 1) // OPPORTUNITY_BYTES)

    def depart_each(self, arrival_ms: float, sizes_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Queue packets (N,) that arrive together; return the milliseconds (N,) in which each leaves."""
        ends = self._start(arrival_ms) + np.cumsum(sizes_bytes)
        self._end = int(ends[-1])
        laps, numbers = np.divmod((ends - 1) // OPPORTUNITY_BYTES, len(self._opportunities))
        return laps * self._period_ms + self._opportunities.times_ms(numbers)

    def upload(self, arrival_s: float, payload_bytes: int) -> float:
        """Queue a whole message, cut into TCP segments that all arrive together (an open window).

        Args:
            arrival_s: seconds from the origin of the trace.
            payload_bytes: size of the message, > 0.

        Returns:
            When its last byte leaves the link, s; propagation is not included.
        """
        return self.depart(arrival_s * 1e3, wire_bytes(payload_bytes)) / 1e3

    def _start(self, arrival_ms: float) -> int:
        """Byte position where a packet that arrives now starts."""
        arrival = math.floor(arrival_ms)
        if self._time_ms(self._end // OPPORTUNITY_BYTES) > arrival:
            return self._end  # busy, or the current opportunity is still to come
        laps, rest = divmod(arrival, self._period_ms)
        passed = laps * len(self._opportunities) + self._opportunities.passed(rest)
        return max(self._end, passed * OPPORTUNITY_BYTES)

    def _time_ms(self, opportunity: int) -> int:
        laps, number = divmod(opportunity, len(self._opportunities))
        return laps * self._period_ms + self._opportunities.time_ms(number)


class Departure(NamedTuple):
    """Part of a byte stream that leaves the link in one millisecond."""

    time_ms: int
    payload_bytes: int
    segments: int


class SegmentStream:
    """One connection's byte stream on a link, cut into full segments as TCP does, whatever the pieces it arrives in.

    Bytes that arrive while the stream's last, partly filled segment still waits fill that segment and cost no header,
    so a message takes the link equally long whether it is read in many small pieces or in one.
    """

    def __init__(self, link: TraceLink) -> None:
        self._link = link
        self._room = 0  # payload bytes free in the last segment
        self._tail_ms = -1  # when the last segment leaves

    next_event_ms = math.inf
    """Infinity: the window is always open, so nothing happens between two calls of `send`."""
    unsent_bytes = 0
    """Always 0, since nothing is held back."""

    def advance(self, until_ms: float) -> list[Departure]:
        """Return no departures, since nothing waits for an acknowledgement."""
        return []

    def send(self, arrival_ms: float, payload_bytes: int, segments: int | None = None) -> list[Departure]:
        """Put `payload_bytes` on the link, or as many of them as fit into `segments` new segments.

        Returns:
            Departures in order, one a millisecond; their payloads add up to what was sent.
        """
        fill = min(self._room, payload_bytes) if math.floor(arrival_ms) < self._tail_ms else 0
        fresh = payload_bytes - fill if segments is None else min(payload_bytes - fill, segments * SEGMENT_BYTES)
        if fill + fresh == 0:
            return []
        count = -(-fresh // SEGMENT_BYTES)
        payloads = np.full(count + 1, SEGMENT_BYTES, np.int64)
        payloads[0] = fill
        if count:
            payloads[-1] = fresh - (count - 1) * SEGMENT_BYTES
        sizes = payloads + HEADER_BYTES
        sizes[0] = fill
        first = 0 if fill else 1
        times = self._link.depart_each(arrival_ms, sizes[first:])
        self._room = SEGMENT_BYTES - int(payloads[-1]) if count else self._room - fill
        self._tail_ms = int(times[-1])
        return _by_millisecond(times, payloads[first:], filled=bool(fill))


def _by_millisecond(times: NDArray[np.int64], payloads: NDArray[np.int64], filled: bool) -> list[Departure]:
    """Merge segments that leave together; the first one is no new segment when it is `filled`."""
    starts = np.flatnonzero(np.r_[True, np.diff(times) > 0])
    sums = np.add.reduceat(payloads, starts)
    counts = np.diff(np.r_[starts, len(times)])
    if filled:
        counts[0] -= 1
    return [Departure(*entry) for entry in zip(times[starts].tolist(), sums.tolist(), counts.tolist(), strict=True)]
