"""A fixed configuration: the baseline that bounds what adapting to the content and to the network is worth."""

from __future__ import annotations

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState, Policy
from vitmalis.policy.regions import FirstFrame, RegionClassifier, decision_of
from vitmalis.regions.classify import DOWNSAMPLED_TYPES, MOTION_THRESHOLD, RELEVANCE_THRESHOLD
from vitmalis.types import Configuration


class Fixed(Policy):
    """Sends every frame with one configuration; only the downsampled regions follow the content.

    Args:
        tau_d: what is downsampled: 0 nothing, 1 CMRs, 2 CMRs and SBRs.
        quality: JPEG quality, 1..100.
        restoration_point: where the resolution is restored in a frame with downsampled regions.
        motion_threshold, relevance_threshold: delta^m and delta^rho, see `vitmalis.regions.classify`.
        first_frame: "low" for frames at low resolution throughout until there is a result, see `RegionClassifier`.

    Raises:
        UserError: an argument is out of range.
    """

    uses_tracker = True
    uses_motion = True

    def __init__(
        self,
        tau_d: int = 2,
        quality: int = 75,
        restoration_point: int = 4,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        first_frame: FirstFrame = "full",
    ) -> None:
        if tau_d not in DOWNSAMPLED_TYPES:
            raise UserError(f"policy.tau_d={tau_d}: choose one of {', '.join(map(str, DOWNSAMPLED_TYPES))}")
        if not 1 <= quality <= 100:
            raise UserError(f"policy.quality={quality}: give a whole number from 1 to 100")
        if restoration_point < 0:
            raise UserError(f"policy.restoration_point={restoration_point}: give a number that is not negative")
        self._configuration = Configuration(tau_d, quality, restoration_point)
        self._classifier = RegionClassifier(motion_threshold, relevance_threshold, first_frame)

    def decide(self, state: ClientState) -> OffloadDecision:
        """Downsample the regions of the configured types, if the frame has some."""
        return decision_of(self._configuration, self._classifier.classify(state).region_types)
