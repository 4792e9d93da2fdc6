"""The network of a virtual run: when messages arrive, computed and not waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vitmalis.network.emulation.path import EmulatedConnection, EmulatedPath
from vitmalis.network.traces import Trace
from vitmalis.network.wire import messages

HANDSHAKE_BYTES = (64, 43)
"""What a client sends to open a ZeroMQ connection (ZMTP 3.1: greeting, READY); each waits for the server's own."""
CLIENT_ID = "client"


class Connection(Protocol):
    """One client's way to the server and back; seconds from the run's first frame."""

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """When the last byte of a message reaches the server."""

    def download(self, sent_s: float) -> float:
        """When a result reaches the client."""

    def reconnect(self, now_s: float) -> float:
        """Close the connection and open another; return when offloads can be sent over it.

        What the closed connection has not sent by `now_s` is discarded.
        """


class DirectConnection:
    """No network between the two: everything arrives when it is sent."""

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """At once."""
        return sent_s

    def download(self, sent_s: float) -> float:
        """At once."""
        return sent_s

    def reconnect(self, now_s: float) -> float:
        """At once."""
        return now_s


class VirtualConnection:
    """A connection over the emulated network, alone on its uplink.

    Opening another takes the three round trips that it takes `ClientEndpoint` behind the relay (greeting, READY, and
    `Hello` answered by `Welcome`), each as soon as the link carries its bytes. The new connection's congestion window
    starts small again where the transport has one.

    Args:
        trace: of the uplink and the round-trip time; its clock starts with the first frame.
        transport: see `vitmalis.network.emulation.path.Transport`.
    """

    def __init__(self, trace: Trace, transport: str = "ideal") -> None:
        self._trace = trace
        self._transport = transport
        self._connection = self._open()

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        """When the last byte of a message reaches the server."""
        return self._connection.upload(sent_s, payload_bytes)

    def download(self, sent_s: float) -> float:
        """When a result reaches the client."""
        return self._connection.download(sent_s)

    def reconnect(self, now_s: float) -> float:
        """Close the connection and open another; return when offloads can be sent over it."""
        self._connection = self._open()
        hello = zmtp_bytes([len(part) for part in messages.encode(messages.Hello(CLIENT_ID))])
        for size in (*HANDSHAKE_BYTES, hello):
            now_s = self.download(self.upload(now_s, size))
        return now_s

    def _open(self) -> EmulatedConnection:
        """A connection over an empty uplink; its trace still counts from the first frame."""
        return EmulatedConnection(EmulatedPath(self._trace, self._transport))


def connect(link: str, trace: Trace, transport: str = "ideal") -> Connection:
    """The connection for a `link` of the configuration: `emulated` by a trace, or `none`."""
    return VirtualConnection(trace, transport) if link == "emulated" else DirectConnection()


@dataclass(frozen=True, slots=True)
class Upload:
    """One offload on its way: when it was announced to the server, and when all of it was there."""

    announced_s: float
    arrived_s: float

    @property
    def transfer_s(self) -> float:
        """What a server measures: from the announcement to the payload behind it."""
        return self.arrived_s - self.announced_s


def upload(connection: Connection, sent_s: float, header: messages.Offload, payload_bytes: int) -> Upload:
    """Announce and send an offload as `ClientEndpoint.send_offload` does."""
    announcement = [len(part) for part in messages.encode(messages.Announce(header.seq))]
    parts = [len(messages.encode(header)[0]), payload_bytes]
    announced_s = connection.upload(sent_s, zmtp_bytes(announcement))
    return Upload(announced_s, connection.upload(sent_s, zmtp_bytes(parts)))


def zmtp_bytes(parts: Sequence[int]) -> int:
    """Bytes of a ZeroMQ message on a TCP connection: each part has a flag and a length of 1 or 8 bytes (ZMTP 3.1)."""
    return sum(size + (2 if size < 256 else 9) for size in parts)
