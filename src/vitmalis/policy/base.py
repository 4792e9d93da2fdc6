"""The policy extension point: observe what an offload cost, decide the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Detections

if TYPE_CHECKING:
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
