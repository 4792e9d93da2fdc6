"""The policy extension point: observe what an offload cost, decide the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Configuration, Detections

if TYPE_CHECKING:
    from vitmalis.policy.explanation import DecisionExplanation
    from vitmalis.regions.motion import Motion


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a device can know at the moment it decides; nothing here comes from a reference or a later frame.

    Attributes:
        frame_index: the frame about to be offloaded.
        grid: the decision regions of the frame, which knows its size, too.
        frame_interval_s: seconds between two captures.
        time_s: seconds since the first frame.
        frames_since_offload: eta, frames since the last offloaded one (0 for the first).
        tracked: objects known: the local tracker's latest boxes and those of a result it has not caught up with.
        retention: kappa, share of objects still tracked since the tracker was last re-initialised, 0..1.
        motion: the motion analyzer's latest finding, of this frame or an earlier one; None before the first.
        results: results received so far; before the first nothing is known about objects.
    """

    frame_index: int
    grid: RegionGrid
    frame_interval_s: float
    time_s: float
    frames_since_offload: int = 0
    tracked: Detections = field(default_factory=Detections.empty)
    retention: float = 1.0
    motion: Motion | None = None
    results: int = 0

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.grid.width_px, self.grid.height_px


@dataclass(frozen=True, slots=True)
class OffloadDecision:
    """How to offload one frame.

    Attributes:
        configuration: tau_d, quality and restoration point.
        downsample_mask: B, bool (rows, cols) of decision regions, True = low resolution; None when there is none.
        blank_mask: bool (rows, cols), True = painted one flat colour before a plain JPEG of the whole frame.
        frame_downsampling: the whole frame is made this many times smaller along each axis before a plain JPEG.
        explanation: why, from a policy that weighs alternatives.
    """

    configuration: Configuration
    downsample_mask: BoolMask | None = None
    blank_mask: BoolMask | None = None
    frame_downsampling: int = 1
    explanation: DecisionExplanation | None = None


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
        uses_motion: whether the client analyses the motion of frames.
        stand_in: what this policy decides by in place of what it should; empty for nothing. A run shows and tags it.
    """

    uses_tracker: ClassVar[bool]
    uses_motion: ClassVar[bool]
    stand_in: str

    def observe(self, outcome: OffloadOutcome) -> None:
        """Learn from a finished offload; called once each, in the order of the results."""

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose how to offload the frame that `state` describes."""
