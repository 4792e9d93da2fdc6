"""The TCP sender of `transport: tcp`: a congestion window that holds messages back on a new or idle connection.

A user-space relay sees bytes that a loopback connection has already let through, so without this model it behaves like
a connection whose window is always open. On a real path the first 10 segments take a round trip before the next 20 may
leave. This is the sender side of Linux TCP as far as upload times depend on it, for a path without loss:

- initial window of 10 segments (RFC 6928), doubled a round trip in slow start (RFC 5681);
- HyStart ends slow start when the round-trip times of a round rise (S. Ha and I. Rhee, "Taming the elephants: New TCP
  slow start", 2011, with Linux's constants), then one segment is added per 20 acknowledged (CUBIC before any loss);
- a window that was idle longer than the retransmission timeout halves for each timeout (RFC 2861), and slow start
  restores three quarters of it.

Not modelled: loss, retransmission timeouts in outages, delayed acknowledgements, the receiver's window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from vitmalis.network.emulation.link import Departure, SegmentStream, TraceLink

INITIAL_WINDOW = 10
"""Segments that a new connection may have in flight, and the least that idling leaves."""

SEGMENTS_PER_INCREASE = 20
"""Acknowledged segments that add one to the window after slow start."""

MIN_TIMEOUT_VARIANCE_MS = 200.0
"""Linux's TCP_RTO_MIN: the timeout is at least this above the smoothed round-trip time."""

ACK_HANDLING_MS = 2.0
"""What a round trip takes beyond departure and propagation: an acknowledgement waits for its own opportunity on the way
back, and both ends take time to handle it. Fitted to new connections in Mahimahi (`python -m validation.link`)."""

HYSTART_LOW_WINDOW = 16
HYSTART_SAMPLES = 8
HYSTART_MIN_RISE_MS = 4.0
HYSTART_MAX_RISE_MS = 16.0


class RoundTripTimer:
    """Smoothed round-trip time and retransmission timeout as Linux estimates them (RFC 6298, refined).

    The variance rises immediately and falls by a quarter a round, never below 200 ms. So the timeout stays long for
    some rounds after an outage, and idling costs less window then.
    """

    def __init__(self) -> None:
        self._smoothed_ms = 0.0
        self._deviation_ms = 0.0  # four times the mean deviation, which is what the timeout adds
        self._round_peak_ms = MIN_TIMEOUT_VARIANCE_MS
        self._variance_ms = MIN_TIMEOUT_VARIANCE_MS
        self._round_end = 0

    def sample(self, rtt_ms: float, acked: int, sent: int) -> None:
        """Add one measured round trip; `acked` and `sent` count the connection's segments so far."""
        if self._smoothed_ms == 0.0:
            self._smoothed_ms, self._deviation_ms = rtt_ms, 2 * rtt_ms
            self._variance_ms = self._round_peak_ms = max(self._deviation_ms, MIN_TIMEOUT_VARIANCE_MS)
            self._round_end = sent
            return
        error = rtt_ms - self._smoothed_ms
        self._smoothed_ms += error / 8
        change = abs(error) - self._deviation_ms / 4
        # As in Linux: shorter round trips, as of a queue that drains, hardly raise the deviation.
        self._deviation_ms += change / 8 if error < 0 < change else change
        self._round_peak_ms = max(self._round_peak_ms, self._deviation_ms)
        self._variance_ms = max(self._variance_ms, self._round_peak_ms)
        if acked > self._round_end:
            self._variance_ms -= (self._variance_ms - self._round_peak_ms) / 4
            self._round_end, self._round_peak_ms = sent, MIN_TIMEOUT_VARIANCE_MS

    @property
    def timeout_ms(self) -> float:
        """Retransmission timeout, ms: idling longer shrinks the window; 1 s before the first sample."""
        return self._smoothed_ms + self._variance_ms if self._smoothed_ms else 1000.0


class HyStart:
    """Ends slow start when a round's lowest round-trip time exceeds the path's by an eighth (4 to 16 ms)."""

    def __init__(self) -> None:
        self._path_ms = math.inf
        self._round_ms = math.inf
        self._samples = 0
        self._round_end = 0

    def exceeds(self, rtt_ms: float, acked: int, sent: int, window: int) -> bool:
        """Add the round trip of segments acknowledged together; return whether a queue has built up.

        Args:
            rtt_ms: their round-trip time.
            acked: segments acknowledged so far on the connection, with these.
            sent: segments sent so far; a round lasts until what was in flight at its start is acknowledged.
            window: congestion window, segments; below `HYSTART_LOW_WINDOW` the answer is no.
        """
        if acked > self._round_end:
            self._round_end, self._round_ms, self._samples = sent, math.inf, 0
        self._path_ms = min(self._path_ms, rtt_ms)
        if window < HYSTART_LOW_WINDOW:
            return False
        if self._samples < HYSTART_SAMPLES:
            self._samples += 1
            self._round_ms = min(self._round_ms, rtt_ms)
            return False
        rise = min(max(self._path_ms / 8, HYSTART_MIN_RISE_MS), HYSTART_MAX_RISE_MS)
        return self._round_ms >= self._path_ms + rise


class _InFlight(NamedTuple):
    """Segments that left the link in one millisecond."""

    ack_ms: float
    sent_ms: float
    segments: int


class TcpStream:
    """One connection's byte stream on a link, behind a congestion window; it has no clock of its own.

    `send` takes bytes when the application writes them, `advance` lets acknowledgements come in; both return the
    departures from the link that follow. Callers that share a link call in the order of time: `next_event_ms` says
    when this stream next wants to send.

    Args:
        link: the bottleneck.
        one_way_delay_ms: propagation delay at a time in ms from the origin of the trace; the way back has the same.
    """

    def __init__(self, link: TraceLink, one_way_delay_ms: Callable[[float], float]) -> None:
        self._stream = SegmentStream(link)
        self._one_way_delay_ms = one_way_delay_ms
        self._unsent_bytes = 0
        self._in_flight: deque[_InFlight] = deque()
        self._sent = self._acked = 0  # segments
        self._window = INITIAL_WINDOW
        self._threshold = math.inf
        self._toward_increase = 0
        self._limited = False  # the window held something back in the current round,
        self._most_in_flight = 0  # at most this was in flight in it,
        self._usage_end = 0  # and it ends when this segment is acknowledged
        self._last_sent_ms = 0.0
        self._timer = RoundTripTimer()
        self._hystart = HyStart()

    @property
    def window(self) -> int:
        """Size of the congestion window in segments."""
        return self._window

    @property
    def next_event_ms(self) -> float:
        """When the next acknowledgement comes, ms from the origin of the trace; infinity when none is expected."""
        return self._in_flight[0].ack_ms if self._in_flight else math.inf

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that the window still holds back."""
        return self._unsent_bytes

    def send(self, now_ms: float, payload_bytes: int) -> list[Departure]:
        """Write bytes as the application would; return the departures of all that the window now lets through."""
        departures = self.advance(now_ms)
        if not self._in_flight and not self._unsent_bytes:
            self._restart_after_idle(now_ms)
        self._unsent_bytes += payload_bytes
        return departures + self._push(now_ms)

    def advance(self, until_ms: float) -> list[Departure]:
        """Handle the acknowledgements up to `until_ms`; return the departures that they allow."""
        departures: list[Departure] = []
        while self.next_event_ms <= until_ms:
            group = self._in_flight.popleft()
            self._acknowledge(group)
            departures += self._push(group.ack_ms)
        return departures

    def _push(self, now_ms: float) -> list[Departure]:
        """Send what the window allows."""
        free = self._window - (self._sent - self._acked)
        if not self._unsent_bytes or free <= 0:
            return []
        departures = self._stream.send(now_ms, self._unsent_bytes, free)
        for departure in departures:
            self._unsent_bytes -= departure.payload_bytes
            self._sent += departure.segments
            arrival_ms = departure.time_ms + self._one_way_delay_ms(departure.time_ms)
            ack_ms = max(arrival_ms + self._one_way_delay_ms(arrival_ms) + ACK_HANDLING_MS, self._last_ack_ms)
            self._in_flight.append(_InFlight(ack_ms, now_ms, departure.segments))
        self._last_sent_ms = now_ms
        self._note_usage()
        return departures

    def _note_usage(self) -> None:
        """Record how much of the window a round uses: a window that is not used does not grow (RFC 7661)."""
        flight = self._sent - self._acked
        limited = flight >= self._window
        if limited or self._acked >= self._usage_end or (not self._limited and flight > self._most_in_flight):
            self._limited, self._most_in_flight, self._usage_end = limited, flight, self._sent

    @property
    def _last_ack_ms(self) -> float:
        return self._in_flight[-1].ack_ms if self._in_flight else 0.0

    def _acknowledge(self, group: _InFlight) -> None:
        """Grow the window by what was acknowledged, if the window was what limited the sender."""
        self._acked += group.segments
        rtt_ms = group.ack_ms - group.sent_ms
        self._timer.sample(rtt_ms, self._acked, self._sent)
        slow_start = self._window < self._threshold
        if math.isinf(self._threshold) and self._hystart.exceeds(rtt_ms, self._acked, self._sent, self._window):
            self._threshold, slow_start = self._window, False
        if not (self._limited or (slow_start and 2 * self._most_in_flight > self._window)):
            return
        if slow_start:
            self._window = int(min(self._window + group.segments, self._threshold))
            return
        self._toward_increase += group.segments
        self._window += self._toward_increase // SEGMENTS_PER_INCREASE
        self._toward_increase %= SEGMENTS_PER_INCREASE

    def _restart_after_idle(self, now_ms: float) -> None:
        """Halve the window for each timeout that the connection was idle; remember three quarters of it."""
        timeouts = math.ceil((now_ms - self._last_sent_ms) / self._timer.timeout_ms) - 1
        if timeouts < 1 or self._window <= INITIAL_WINDOW:
            return
        self._threshold = max(self._threshold, self._window * 3 // 4)
        self._window = max(self._window >> min(timeouts, 32), INITIAL_WINDOW)
