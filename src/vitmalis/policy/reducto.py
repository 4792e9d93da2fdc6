"""Reducto's idea (Li et al., SIGCOMM 2020): frames that changed little since the last offloaded one stay here."""

from __future__ import annotations

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy.back2back import Back2Back
from vitmalis.policy.base import ClientState, Policy
from vitmalis.policy.frame_change import ChangeFilter, edge_pixels

CHANGE_THRESHOLD = 0.2
SEGMENT_S = 1.0


class Reducto(Policy):
    """Offloads like TrackB2B, but declines frames whose edges differ little from those of the last offloaded one.

    A frame is declined only while the result of the last offloaded one is there: where it was lost, nothing is known of
    what has not changed since. What Reducto has and this policy has not is in docs/field.md.

    Args:
        quality: JPEG quality, 1..100.
        change_threshold: largest share of pixels with other edges at which a frame is declined; 0 declines only frames
            with the same edges. `python -m profiling.filtering` learns it.
        segment_s: a frame is offloaded at least so often; Reducto sends the first frame of each segment of 1 s.

    Raises:
        UserError: an argument is out of range.
    """

    uses_tracker = True
    uses_objects = False

    def __init__(
        self, quality: int = 95, change_threshold: float = CHANGE_THRESHOLD, segment_s: float = SEGMENT_S
    ) -> None:
        self._plain = Back2Back(quality)
        if not 0 <= change_threshold <= 1:
            raise UserError(f"policy.change_threshold={change_threshold}: give a share of pixels from 0 to 1")
        if segment_s <= 0:
            raise UserError(f"policy.segment_s={segment_s}: give a positive number of seconds")
        self._filter = ChangeFilter(change_threshold, segment_s)

    def decide(self, state: ClientState) -> OffloadDecision | None:
        """Choose full resolution for a frame that has changed, and decline any other."""
        if state.image is None:
            return self._plain.decide(state)
        answered = state.results > 0 and state.result_age_frames == state.frames_since_offload
        since_offload_s = state.frames_since_offload * state.frame_interval_s
        passes = self._filter.passes(edge_pixels(state.image), since_offload_s, always=not answered)
        return self._plain.decide(state) if passes else None
