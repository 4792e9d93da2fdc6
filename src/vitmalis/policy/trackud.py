"""TrackUD: TrackB2B that downsamples the whole frame while offloading is slow (paper, VI-A)."""

from __future__ import annotations

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState
from vitmalis.policy.trackb2b import TrackB2B


class TrackUD(TrackB2B):
    """Sends frames of 1/d of the width and height while the most recent E2E latency is above a threshold.

    The factor d is that of the model's decision regions; the paper's is 2.

    Args:
        quality: JPEG quality, 1..100.
        latency_threshold_s: the paper's 15 frame intervals are 0.5 s at its 30 FPS.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, quality: int = 95, latency_threshold_s: float = 0.5) -> None:
        super().__init__(quality)
        if latency_threshold_s <= 0:
            raise UserError(f"policy.latency_threshold_s={latency_threshold_s}: give a positive number of seconds")
        self._threshold_s = latency_threshold_s
        self._last_latency_s = 0.0

    def observe(self, outcome: OffloadOutcome) -> None:
        """Remember the latest E2E latency."""
        self._last_latency_s = outcome.e2e_latency_s

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose the smaller size after a slow offload, else the full size."""
        if self._last_latency_s <= self._threshold_s:
            return self._decision
        return OffloadDecision(self._decision.configuration, frame_downsampling=state.grid.factor)
