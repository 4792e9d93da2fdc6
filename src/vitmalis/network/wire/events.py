"""What the client's end of the connection tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.network.wire import messages as m
from vitmalis.types import Detections


@dataclass(frozen=True, slots=True)
class Connected:
    """The server answered the handshake on a new connection."""

    welcome: m.Welcome


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection that `Connected` told of is gone, with everything under way on it; a new one is being tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class VersionMismatch:
    """The server speaks another protocol version; no further attempt is made."""

    ours: int
    theirs: int


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """A result; `received_s` is `time.monotonic()` at its receipt."""

    result: m.Result
    detections: Detections
    received_s: float


@dataclass(frozen=True, slots=True)
class FailureReceived:
    """Offload `seq` (`messages.NO_SEQ`: some message) gets no result."""

    seq: int
    reason: str
    received_s: float


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to `ping(nonce)`."""

    nonce: int
    received_s: float


Event = Connected | Disconnected | VersionMismatch | ResultReceived | FailureReceived | PongReceived
