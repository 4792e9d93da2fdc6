"""Injection: true values in place of a policy's estimates, one kind at a time, to find out what each error costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import F1ByAge
from vitmalis.offload import OffloadDecision
from vitmalis.policy.base import ClientState, Lookahead
from vitmalis.policy.estimates import Estimates

FloatArray = NDArray[np.float64]

Truth = Literal["size", "f1", "throughput", "decay"]
_MEANINGS = {"size": "size", "f1": "inference F1", "throughput": "throughput", "decay": "F1 by age"}


LEAST_F1 = 0.01
"""Lower values of a known F1 by age count as this one, as policies divide by it."""


class Injection:
    """Replaces estimates of the candidates by what a lookahead finds out about each of them.

    `size` is the bytes of the frame as configured, `f1` the F1 of the result for it compared with the reference,
    `throughput` that of the trace while the candidate is uploaded, `decay` the F1 of the frame's reference boxes at
    each age, as the client's tracker will carry them.

    Args:
        truths: which values are true ones; all others stay estimates.

    Raises:
        UserError: an unknown name.
    """

    def __init__(self, truths: Sequence[Truth]) -> None:
        if unknown := [name for name in truths if name not in get_args(Truth)]:
            raise UserError(f"policy.inject={list(truths)}: '{unknown[0]}' is unknown: choose {', '.join(_MEANINGS)}")
        self._truths = frozenset(truths)
        self._lookahead: Lookahead | None = None

    @property
    def stand_in(self) -> str:
        """What true values stand for; empty without any."""
        known = [meaning for name, meaning in _MEANINGS.items() if name in self._truths]
        return f"true {', '.join(known)}, which no device knows, in place of estimates" if known else ""

    def attach_lookahead(self, lookahead: Lookahead) -> None:
        """Take the virtual clock's view of the frames to come."""
        self._lookahead = lookahead

    def injected(
        self,
        state: ClientState,
        decision_for: Callable[[int], OffloadDecision],
        estimates: Estimates,
        uplink_mbps: float,
    ) -> Estimates:
        """Return the estimates with true values in place of the chosen ones.

        Args:
            state: of the device, before the decision.
            decision_for: returns the decision for the candidate with a number.
            estimates: of all candidates.
            uplink_mbps: the throughput that they assume.

        Raises:
            UserError: there is no lookahead, as in real time.
        """
        if not self._truths - {"decay"}:
            return estimates
        lookahead, candidates = self._known_lookahead(), estimates.candidates
        decisions = [
            replace(decision_for(n), estimates_age_frames=estimates.age_frames) for n in range(len(candidates))
        ]
        payload_bytes, f1, f1_error = estimates.payload_bytes, estimates.f1, estimates.f1_error
        if "size" in self._truths:
            payload_bytes = lookahead.payload_bytes(state, decisions)
        if "f1" in self._truths:
            f1, f1_error = lookahead.inference_f1(state, decisions), np.zeros(len(candidates))
        upload_s = payload_bytes * 8e-6 / uplink_mbps
        if "throughput" in self._truths:
            upload_s = lookahead.transfer_s(state, decisions, payload_bytes)
        e2e_latency_s = estimates.e2e_latency_s + upload_s - estimates.payload_bytes * 8e-6 / uplink_mbps
        return replace(estimates, payload_bytes=payload_bytes, e2e_latency_s=e2e_latency_s, f1=f1, f1_error=f1_error)

    def decay(self, state: ClientState, estimated: F1ByAge, oldest_s: float) -> F1ByAge:
        """Return the true F1 by age of this frame's boxes up to an age, or the estimate if that is not injected."""
        if "decay" not in self._truths:
            return estimated
        return KnownF1ByAge(self._known_lookahead().f1_by_age(state, oldest_s), state.frame_interval_s)

    def _known_lookahead(self) -> Lookahead:
        if self._lookahead is None:
            raise UserError(
                f"policy.inject={sorted(self._truths)}: true values are known with clock=virtual only, and not for "
                "random weights"
            )
        return self._lookahead


class KnownF1ByAge(F1ByAge):
    """F1 by age that is known for each frame to come: linear between frames and constant beyond the last, above 0.

    Args:
        f1: F1 at the age of 0, 1, ... frames (n,), n >= 1.
        frame_interval_s: seconds between two frames.
    """

    def __init__(self, f1: FloatArray, frame_interval_s: float) -> None:
        super().__init__((0.0, 1.0), (1.0, 1.0))
        self._known_f1 = np.maximum(f1, LEAST_F1)
        self._known_ages_s = np.arange(len(f1)) * frame_interval_s

    def at(self, ages_s: ArrayLike) -> FloatArray:
        """F1 at each age, any shape."""
        return np.interp(np.asarray(ages_s, np.float64), self._known_ages_s, self._known_f1)
