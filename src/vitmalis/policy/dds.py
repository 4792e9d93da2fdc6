"""DDS's idea (Du et al., SIGCOMM 2020): a frame at low resolution first, then the regions that the server asks back."""

from __future__ import annotations

import numpy as np

from vitmalis.errors import UserError
from vitmalis.offload import FeedbackRequest, OffloadDecision
from vitmalis.policy.base import ClientState, Policy
from vitmalis.types import Configuration


class DDS(Policy):
    """Sends whole frames at low resolution, and then the regions in which the server is uncertain at full resolution.

    The second round is the client's part (`vitmalis.client.in_flight`). What DDS has and this policy has not is in
    docs/field.md.

    Args:
        low_quality: JPEG quality of the first round, 1..100.
        quality: JPEG quality of the second round, 1..100.
        restoration_point: where the resolution is restored, in both rounds.
        low_score, high_score: boxes with scores from the first to below the second are uncertain, those above are not.

    Raises:
        UserError: an argument is out of range.
    """

    uses_tracker = True
    uses_objects = False

    def __init__(
        self,
        low_quality: int = 75,
        quality: int = 95,
        restoration_point: int = 4,
        low_score: float = 0.45,
        high_score: float = 0.5,
    ) -> None:
        for name, value in (("low_quality", low_quality), ("quality", quality)):
            if not 1 <= value <= 100:
                raise UserError(f"policy.{name}={value}: give a whole number from 1 to 100")
        if restoration_point < 0:
            raise UserError(f"policy.restoration_point={restoration_point}: give a number that is not negative")
        if not 0 <= low_score < high_score <= 1:
            raise UserError(
                f"policy.low_score={low_score}: give a score from 0 to below policy.high_score={high_score}"
            )
        self._first_round = Configuration(2, low_quality, restoration_point)
        self._feedback = FeedbackRequest(low_score, high_score, Configuration(2, quality, restoration_point))

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose low resolution everywhere, and request feedback."""
        everything = np.ones(state.grid.shape, bool)
        return OffloadDecision(self._first_round, downsample_mask=everything, feedback=self._feedback)
