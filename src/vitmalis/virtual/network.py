"""The network of a virtual run: computes when messages arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vitmalis.network.emulation.path import EmulatedConnection, EmulatedPath
from vitmalis.network.traces import Trace
from vitmalis.network.wire import coding, messages

HANDSHAKE_BYTES = (64, 43)
"""Sizes of the greeting and the READY command that open a ZeroMQ connection (ZMTP 3.1); the server answers each."""
CLIENT_ID = "client"


class Connection(Protocol):
    """A client's connection to the server; times are seconds since the run's first frame."""

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """Send a message; return when its last byte reaches the server."""

    def download(self, sent_s: float) -> float:
        """Return when a result that the server sends reaches the client."""

    def reconnect(self, now_s: float) -> float:
        """Close the connection and open another; return when offloads can be sent over it.

        What the closed connection has not sent by `now_s` is discarded.
        """


class DirectConnection:
    """A connection without a network: everything arrives when it is sent."""

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """Return the time of sending."""
        return sent_s

    def download(self, sent_s: float) -> float:
        """Return the time of sending."""
        return sent_s

    def reconnect(self, now_s: float) -> float:
        """Return `now_s`: connecting takes no time."""
        return now_s


class VirtualConnection:
    """A connection over the emulated network, alone on its uplink.

    Reconnecting takes three round trips (greeting, READY, and `Hello` answered by `Welcome`), each once the link has
    carried its bytes, as measured with `ClientEndpoint` behind the relay: 0.13, 0.31 and 0.61 s at round-trip times of
    40, 100 and 200 ms. The congestion window, where the transport has one, starts small again.

    Args:
        trace: uplink rate and round-trip time; its clock starts with the first frame.
        transport: see `vitmalis.network.emulation.path.Transport`.
    """

    def __init__(self, trace: Trace, transport: str = "ideal") -> None:
        self._trace = trace
        self._transport = transport
        self._connection = self._open()

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """Send a message; return when its last byte reaches the server."""
        return self._connection.upload(sent_s, payload_bytes)

    def download(self, sent_s: float) -> float:
        """Return when a result that the server sends reaches the client."""
        return self._connection.download(sent_s)

    def reconnect(self, now_s: float) -> float:
        """Close the connection and open another; return when offloads can be sent over it."""
        self._connection = self._open()
        hello = zmtp_bytes([len(part) for part in coding.encode(messages.Hello(CLIENT_ID))])
        for size in (*HANDSHAKE_BYTES, hello):
            now_s = self.download(self.upload(now_s, size))
        return now_s

    def _open(self) -> EmulatedConnection:
        """Open a connection over an empty uplink; its trace still counts from the first frame."""
        return EmulatedConnection(EmulatedPath(self._trace, self._transport))


def connect(link: str, trace: Trace, transport: str = "ideal") -> Connection:
    """Open the connection for a `link` of the configuration: `emulated` with a trace, or `none`."""
    return VirtualConnection(trace, transport) if link == "emulated" else DirectConnection()


@dataclass(frozen=True, slots=True)
class Upload:
    """The upload of one offload: when its announcement and its last byte reach the server, seconds."""

    announced_s: float
    arrived_s: float

    @property
    def transfer_s(self) -> float:
        """Duration that a server measures, from the announcement to the end of the payload."""
        return self.arrived_s - self.announced_s


def upload(connection: Connection, sent_s: float, header: messages.Offload, payload_bytes: int) -> Upload:
    """Announce and send an offload, as `ClientEndpoint.send_offload` does."""
    announcement = [len(part) for part in coding.encode(messages.Announce(header.seq))]
    parts = [len(coding.encode(header)[0]), payload_bytes]
    announced_s = connection.upload(sent_s, zmtp_bytes(announcement))
    return Upload(announced_s, connection.upload(sent_s, zmtp_bytes(parts)))


def zmtp_bytes(parts: Sequence[int]) -> int:
    """Size of a ZeroMQ message on a TCP connection: each part has a flag and a length of 1 or 8 bytes (ZMTP 3.1)."""
    return sum(size + (2 if size < 256 else 9) for size in parts)
