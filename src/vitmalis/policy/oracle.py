"""The oracle: one-step look-ahead with knowledge of the frames to come. No real system can run it."""

from __future__ import annotations

from collections.abc import Sequence

from vitmalis.errors import UserError
from vitmalis.estimation import configuration_space
from vitmalis.estimation.features import DOWNSAMPLING_TYPES, QUALITIES, RESTORATION_POINTS
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState, Lookahead, Policy
from vitmalis.policy.regions import FirstFrame, RegionClassifier, decision_of


class Oracle(Policy):
    """Takes, per offload, the configuration with the highest rendering F1 to come; of equals the fastest.

    It searches the whole configuration space, one offload ahead: it says what true values of all estimates could gain
    for this offload, and is no upper bound, as a policy that thinks of the next offload may do better. Regions are
    classified as by ViTMAlis. The lookahead takes no time on the virtual clock.

    Args:
        qualities, tau_ds, restoration_points: the configuration space, of which every candidate is encoded and inferred
            at every offload.
        first_frame: "low" for candidates at low resolution throughout until there is a result, see `RegionClassifier`.
    """

    uses_tracker = True
    uses_motion = True
    stand_in = "one-step look-ahead, which knows the frames to come, in place of a policy"

    def __init__(
        self,
        *,
        qualities: Sequence[int] = QUALITIES,
        tau_ds: Sequence[int] = DOWNSAMPLING_TYPES,
        restoration_points: Sequence[int] = RESTORATION_POINTS,
        first_frame: FirstFrame = "full",
    ) -> None:
        if 0 not in tau_ds:
            raise UserError(f"policy.tau_ds={list(tau_ds)}: it must contain 0, for frames with nothing to downsample")
        self._space = configuration_space(qualities, tau_ds, restoration_points)
        self._classifier = RegionClassifier(first_frame=first_frame)
        self._lookahead: Lookahead | None = None

    def attach_lookahead(self, lookahead: Lookahead) -> None:
        """Take the virtual clock's view of the frames to come."""
        self._lookahead = lookahead

    def decide(self, state: ClientState) -> OffloadDecision:
        """Simulate all candidates and take the best.

        Raises:
            UserError: there is no lookahead, as in real time.
        """
        if self._lookahead is None:
            raise UserError("policy=oracle looks into the future, which only clock=virtual can show it")
        decisions = self._candidates(state)
        results = self._lookahead.evaluate(state, decisions)
        best = max(range(len(decisions)), key=lambda n: (results[n].rendered_f1, -results[n].received_s))
        return decisions[best]

    def _candidates(self, state: ClientState) -> list[OffloadDecision]:
        types = self._classifier.classify(state).region_types
        configurations = [self._space.configuration(number) for number in range(len(self._space))]
        decisions = [decision_of(configuration, types) for configuration in configurations]
        return [d for d, asked in zip(decisions, configurations, strict=True) if d.configuration == asked]
