"""The events that a `ClientEndpoint` reports."""

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
    """The connection that `Connected` reported is lost, with all messages in transit; a new one is being tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class VersionMismatch:
    """The server speaks another protocol version, `theirs`; no further attempt is made."""

    theirs: int


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """A result arrived; `received_s` is `time.monotonic()` at its receipt."""

    result: m.Result
    detections: Detections
    received_s: float


@dataclass(frozen=True, slots=True)
class FailureReceived:
    """Offload `seq` gets no result, or with `messages.NO_SEQ` another message was refused."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The server answered `ping(nonce)`; `received_s` is `time.monotonic()` at its receipt."""

    nonce: int
    received_s: float


Event = Connected | Disconnected | VersionMismatch | ResultReceived | FailureReceived | PongReceived
