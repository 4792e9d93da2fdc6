"""TrackRoI: TrackB2B that sends only regions with objects (paper, VI-A)."""

from __future__ import annotations

from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState
from vitmalis.policy.regions import RegionClassifier
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.regions import RegionType
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD


class TrackRoI(TrackB2B):
    """Paints every region that is no dynamic object region (DOR) in one flat colour, which costs almost no bytes.

    A frame without a DOR is sent whole: in a blank frame the server could never find objects again.

    Args:
        quality: JPEG quality, 1..100.
        motion_threshold, relevance_threshold: delta^m and delta^rho, see `vitmalis.regions.classify`.
    """

    uses_objects = True
    uses_motion = True

    def __init__(
        self,
        quality: int = 95,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
    ) -> None:
        super().__init__(quality)
        self._classifier = RegionClassifier(motion_threshold, relevance_threshold)

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose full resolution, with the background blanked."""
        blank = self._classifier.classify(state).region_types != RegionType.DOR
        useful = blank.any() and not blank.all()
        return OffloadDecision(self._decision.configuration, blank_mask=blank if useful else None)
