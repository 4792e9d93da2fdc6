"""Events that the client's state machine handles, and actions that it asks its driver to carry out.

The state machine does no I/O and reads no clock, so that the realtime and the virtual driver run the same logic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy import ClientState
from vitmalis.regions import Motion
from vitmalis.tracker import TrackingImage
from vitmalis.types import BoolMask, BoxSource, Detections, Frame, OffloadStatus

# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameCaptured:
    """A frame was taken out of the camera buffer; `tracking_image` is what `Tracker.prepare` made of it."""

    frame: Frame
    tracking_image: TrackingImage | None = None


@dataclass(frozen=True, slots=True)
class RenderDue:
    """The renderer asks for the boxes of this frame."""

    frame_index: int


@dataclass(frozen=True, slots=True)
class TrackingDone:
    """A tracker job ended with boxes for `frame_index`; `retention` is kappa."""

    frame_index: int
    detections: Detections
    retention: float


@dataclass(frozen=True, slots=True)
class BoxesLocated:
    """Known boxes were located in `frame_index`, the frame about to be offloaded."""

    frame_index: int
    detections: Detections


@dataclass(frozen=True, slots=True)
class MotionAnalysed:
    """The motion analysis of a frame ended."""

    motion: Motion


@dataclass(frozen=True, slots=True)
class ResultArrived:
    """The result of an offload arrived.

    `asked` are regions that the server wants to see at full resolution, bool (rows, cols), if it was to ask for any.
    """

    offload_id: int
    detections: Detections
    outcome: OffloadOutcome
    asked: BoolMask | None = None


@dataclass(frozen=True, slots=True)
class OffloadRefused:
    """The server refused an offload, or failed at it."""

    offload_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to the server was established (handshake done) or lost."""

    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EstimatedAhead:
    """The policy has estimated ahead of its next decision; `estimates` is what `Policy.estimate_ahead` returned."""

    estimates: object


Event = (
    FrameCaptured
    | RenderDue
    | TrackingDone
    | BoxesLocated
    | MotionAnalysed
    | EstimatedAhead
    | ResultArrived
    | OffloadRefused
    | LinkChanged
)

# --- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartOffload:
    """Encode the frame as decided and send it.

    `second_round_of` is the offload that sent the same frame before, -1 for none.
    """

    offload_id: int
    frame: Frame
    decision: OffloadDecision
    second_round_of: int = -1


@dataclass(frozen=True, slots=True)
class DeclineOffload:
    """Note that the policy was asked to offload this frame, and declined."""

    frame_index: int


@dataclass(frozen=True, slots=True)
class EndOffload:
    """Close the record of an offload; `reason` says why it has no result, or no second round that it should have."""

    offload_id: int
    status: OffloadStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the connection with all that it still holds and open another.

    After an outage a new connection is faster than TCP's retransmissions on the old one, and the payload of a lost
    offload does not delay the next one. `LinkChanged` reports the new connection.
    """


@dataclass(frozen=True, slots=True)
class Track:
    """Advance the tracker through these frames."""

    frames: Sequence[tuple[int, TrackingImage]]  # (frame_index, image), at least one


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Restart the tracker with a result and advance it through the frames captured since (Glimpse [25])."""

    detections: Detections
    frames: Sequence[tuple[int, TrackingImage]]  # (frame_index, image), the offloaded frame first


@dataclass(frozen=True, slots=True)
class Locate:
    """Locate known boxes in the frame about to be offloaded, for a decision; the tracked objects stay as they are."""

    detections: Detections
    frames: Sequence[tuple[int, TrackingImage]]  # (frame_index, image), that of the boxes first


TrackerJob = Track | CatchUp | Locate


@dataclass(frozen=True, slots=True)
class AnalyseMotion:
    """Analyse the motion of this frame."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class EstimateAhead:
    """Let the policy estimate ahead of its next decision, from the state of the latest one."""

    state: ClientState


@dataclass(frozen=True, slots=True)
class Render:
    """Show these boxes on this frame.

    `result_frame_index` is the offloaded frame whose result they come from, `shown_frame_index` the frame that they
    were computed for; both are -1 when there is nothing to show.
    """

    frame_index: int
    detections: Detections
    source: BoxSource
    result_frame_index: int = -1
    shown_frame_index: int = -1


Action = StartOffload | DeclineOffload | EndOffload | Reconnect | TrackerJob | AnalyseMotion | EstimateAhead | Render
