"""The policy extension point: observe what an offload cost, decide the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from vitmalis.types import BoolMask, Configuration, Detections


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a device can know at the moment it decides; nothing here comes from a reference or a later frame.

    Attributes:
        frame_index: the frame about to be offloaded.
        frame_size: (width, height) in pixels.
        frame_interval_s: seconds between two captures.
        time_s: seconds since the first frame.
        frames_since_offload: eta, frames since the last offloaded one (0 for the first).
        tracked: the local tracker's latest boxes.
        retention: kappa, share of objects still tracked since the tracker was last re-initialised, 0..1.
    """

    frame_index: int
    frame_size: tuple[int, int]
    frame_interval_s: float
    time_s: float
    frames_since_offload: int = 0
    tracked: Detections = field(default_factory=Detections.empty)
    retention: float = 1.0


@dataclass(frozen=True, slots=True)
class OffloadDecision:
    """How to offload one frame.

    Attributes:
        configuration: tau_d, quality and restoration point.
        downsample_mask: B, bool (rows, cols) of decision regions, True = low resolution; None when there is none.
    """

    configuration: Configuration
    downsample_mask: BoolMask | None = None


@dataclass(frozen=True, slots=True)
class OffloadOutcome:
    """What a finished offload cost, as seen from the device. Durations in seconds.

    Attributes:
        frame_index: the offloaded frame.
        decision: what was decided for it.
        payload_bytes: size of the compressed frame on the wire.
        encode_s, queue_s, decode_s, inference_s: stage durations; `queue_s` is waiting at the server.
        transfer_s: time the payload took to pass the uplink, without propagation.
        rtt_s: both propagation delays together (the paper's L^net).
        e2e_latency_s: start of encoding to reception of the result.
    """

    frame_index: int
    decision: OffloadDecision
    payload_bytes: int
    encode_s: float
    decode_s: float
    inference_s: float
    transfer_s: float
    rtt_s: float
    e2e_latency_s: float
    queue_s: float = 0.0

    @property
    def network_s(self) -> float:
        """Upload, propagation both ways and the (small) result, seconds."""
        return self.transfer_s + self.rtt_s

    @property
    def uplink_mbps(self) -> float:
        """Throughput this upload saw, Mbps."""
        return self.payload_bytes * 8e-6 / max(self.transfer_s, 1e-6)


class Policy(Protocol):
    """Decides per offload. One file a policy; every policy joins `tests/policy/test_contract.py`.

    Attributes:
        uses_tracker: whether the client carries boxes forward between results.
    """

    uses_tracker: ClassVar[bool]

    def observe(self, outcome: OffloadOutcome) -> None:
        """Learn from a finished offload; called once each, in the order of the results."""

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose how to offload the frame that `state` describes."""
