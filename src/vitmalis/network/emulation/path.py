"""The emulated path between clients and a server: an uplink that follows a trace, one-way delays, and a transport.

Both clocks use it: the virtual clock asks `EmulatedConnection` when a message arrives, the relay asks the streams when
to release bytes. Times count from the origin of the trace: the moment at which a client sends its first byte.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from vitmalis.errors import UserError
from vitmalis.network.emulation.link import Departure, SegmentStream, TraceLink
from vitmalis.network.emulation.tcp import TcpStream
from vitmalis.network.traces import Trace

Transport = Literal["ideal", "tcp"]
"""`ideal`: a sender's window is always open. `tcp`: it starts at 10 segments and must grow (see `tcp.py`)."""


class Stream(Protocol):
    """Uplink side of one connection as a byte stream; `SegmentStream` and `TcpStream` are its implementations."""

    @property
    def next_event_ms(self) -> float:
        """When the stream next needs a call of `advance`, ms; infinity if never."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that are not on the link yet."""

    def send(self, now_ms: float, payload_bytes: int, /) -> list[Departure]:
        """Write bytes at `now_ms`; return the departures that are now certain."""

    def advance(self, until_ms: float, /) -> list[Departure]:
        """Let time pass until `until_ms`; return the departures that are now certain."""


class EmulatedPath:
    """One uplink FIFO that all connections share, and a downlink that only delays.

    Args:
        trace: capacity of the uplink and round-trip time; half of that passes each way.
        transport: `ideal` or `tcp`.

    Raises:
        UserError: an unknown transport, or a trace too slow for a single packet.
    """

    def __init__(self, trace: Trace, transport: str = "ideal") -> None:
        if transport not in get_args(Transport):
            raise UserError(f"transport '{transport}' is unknown: choose one of {', '.join(get_args(Transport))}")
        self._trace = trace
        self._transport = transport
        self._link = TraceLink.of(trace)
        self._last_arrival_ms = 0.0

    def connect(self) -> Stream:
        """A new connection over the shared uplink."""
        return TcpStream(self._link, self.one_way_delay_ms) if self._transport == "tcp" else SegmentStream(self._link)

    def one_way_delay_ms(self, time_ms: float) -> float:
        """Propagation delay of bytes that leave at `time_ms`, ms."""
        return self._trace.rtt_ms_at(time_ms / 1e3) / 2

    def arrival_ms(self, departure_ms: float) -> float:
        """When bytes that leave the uplink at `departure_ms` reach the server, ms; they never overtake earlier ones."""
        arrival_ms = departure_ms + self.one_way_delay_ms(departure_ms)
        self._last_arrival_ms = max(arrival_ms, self._last_arrival_ms)
        return self._last_arrival_ms


class EmulatedConnection:
    """One client's connection over an emulated path, in whole messages; its calls must come in the order of time."""

    def __init__(self, path: EmulatedPath) -> None:
        self._path = path
        self._stream = path.connect()

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """Send a message up; return when its last byte reaches the server, s.

        Args:
            sent_s: when the client writes the whole message to its socket.
            payload_bytes: size on the wire without packet headers, > 0.
        """
        departures = self._stream.send(sent_s * 1e3, payload_bytes)
        while self._stream.unsent_bytes:
            departures += self._stream.advance(self._stream.next_event_ms)
        return self._path.arrival_ms(departures[-1].time_ms) / 1e3

    def download(self, sent_s: float) -> float:
        """When a message of any size that the server sends at `sent_s` reaches the client, s."""
        return sent_s + self._path.one_way_delay_ms(sent_s * 1e3) / 1e3
