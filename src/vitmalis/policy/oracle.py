"""The oracle: what could be had if the future were known. No system can run it; it says how much there is to gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from vitmalis.errors import UserError
from vitmalis.estimation import configuration_space
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState
from vitmalis.policy.regions import RegionClassifier
from vitmalis.regions.classify import downsample_mask


class Foreseen(NamedTuple):
    """What would come of a decision: F1 of what the user will see, and when the result will be there."""

    rendered_f1: float
    received_s: float


class Foresight(Protocol):
    """What the virtual driver lends the oracle, and nobody else."""

    def foresee(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[Foreseen]:
        """What would come of each decision."""


class Oracle:
    """Takes, per offload, the configuration with which the user will see most; of equal ones the one that is fastest.

    It looks one offload ahead and so is no bound on what any policy could reach, only on what better estimates could.
    Regions are classified as by ViTMAlis. On the virtual clock its looking ahead takes no time.

    Args:
        qualities, tau_ds, restoration_points: its configuration space. Every candidate is really encoded and inferred,
            so it is kept small.
    """

    uses_tracker: ClassVar[bool] = True
    uses_motion: ClassVar[bool] = True
    stand_in: str = "an oracle that looks at what nobody can know in place of a policy"

    def __init__(
        self,
        *,
        qualities: Sequence[int] = (75, 95),
        tau_ds: Sequence[int] = (0, 1, 2),
        restoration_points: Sequence[int] = (0, 2, 4),
    ) -> None:
        if 0 not in tau_ds:
            raise UserError(f"policy.tau_ds={list(tau_ds)}: it must contain 0, for frames with nothing to downsample")
        self._space = configuration_space(qualities, tau_ds, restoration_points)
        self._classifier = RegionClassifier()
        self._foresight: Foresight | None = None

    def lend(self, foresight: Foresight) -> None:
        """Let it look ahead."""
        self._foresight = foresight

    def observe(self, outcome: OffloadOutcome) -> None:
        """It has nothing to learn."""

    def decide(self, state: ClientState) -> OffloadDecision:
        """Try everything and take the best.

        Raises:
            UserError: nobody lent it foresight, as in real time.
        """
        if self._foresight is None:
            raise UserError("policy=oracle looks into the future, which only clock=virtual can show it")
        decisions = self._candidates(state)
        foreseen = self._foresight.foresee(state, decisions)
        best = max(range(len(decisions)), key=lambda n: (foreseen[n].rendered_f1, -foreseen[n].received_s))
        return decisions[best]

    def _candidates(self, state: ClientState) -> list[OffloadDecision]:
        types = self._classifier.look(state).region_types
        decisions = []
        for number in range(len(self._space.quality)):
            configuration = self._space.configuration(number)
            mask = downsample_mask(types, configuration.tau_d) if configuration.tau_d else None
            if mask is None or mask.any():
                decisions.append(OffloadDecision(configuration, mask))
        return decisions
