"""Back2Back: full-resolution frames, one after the other, and results shown unchanged (paper, VI-A)."""

from __future__ import annotations

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState, Policy
from vitmalis.types import Configuration


class Back2Back(Policy):
    """Sends whole frames at a fixed JPEG quality, the newest as soon as the last result has arrived.

    Args:
        quality: JPEG quality, 1..100; the paper's baselines use 95.

    Raises:
        UserError: the quality is no whole number in that range.
    """

    uses_objects = False

    def __init__(self, quality: int = 95) -> None:
        if not isinstance(quality, int) or not 1 <= quality <= 100:
            raise UserError(f"policy.quality={quality}: give a whole number from 1 to 100")
        self._decision = OffloadDecision(Configuration(tau_d=0, quality=quality, restoration_point=0))

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose full resolution at the fixed quality."""
        return self._decision
