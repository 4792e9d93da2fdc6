"""MaskVD's and Eventful Transformers' idea: what did not change comes from tokens that the server has cached."""

from __future__ import annotations

from dataclasses import replace

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState
from vitmalis.policy.fixed import Fixed
from vitmalis.policy.region_caching import CHANGE_THRESHOLD, REACH, REFRESH_S, RegionCaching
from vitmalis.policy.regions import decision_of
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD


class Cached(Fixed):
    """Sends what changed, with one configuration, and has all other regions taken from cached tokens.

    `RegionCaching` says which regions are unchanged. A frame is sent whole, at full resolution, while the server has no
    tokens: first, and after an offload that failed. What else is sent is treated as by `Fixed`, as is everything while
    the server caches nothing.

    Args:
        tau_d, quality, restoration_point, motion_threshold, relevance_threshold: as of `Fixed`; cached regions
            come back at the restoration point, too, so it is at least 1.
        change_threshold, reach, refresh_s: as of `RegionCaching`.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        tau_d: int = 1,
        quality: int = 75,
        restoration_point: int = 4,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        *,
        change_threshold: float = CHANGE_THRESHOLD,
        reach: int = REACH,
        refresh_s: float = REFRESH_S,
    ) -> None:
        super().__init__(tau_d, quality, restoration_point, motion_threshold, relevance_threshold)
        if restoration_point < 1:
            raise UserError(f"policy.restoration_point={restoration_point}: tokens are cached from 1 on")
        self._caching = RegionCaching(change_threshold, reach, refresh_s)

    def decide(self, state: ClientState) -> OffloadDecision:
        """Cache the regions that did not change, and treat the others as configured."""
        frame = self._caching.frame(state)
        if frame is None:
            return super().decide(state)
        whole = frame.base is None
        configuration = replace(self._configuration, tau_d=0) if whole else self._configuration
        decision = decision_of(configuration, self._classifier.classify(state).region_types, frame.caching())
        self._caching.send(frame, decision)
        return decision

    def observe(self, outcome: OffloadOutcome) -> None:
        """Ask for nothing to be cached for a while where the server did not do so."""
        super().observe(outcome)
        self._caching.observe(outcome)
