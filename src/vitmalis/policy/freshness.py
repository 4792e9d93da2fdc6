"""Freshness: chooses the configuration with the highest expected rendering F1, the metric itself (not in the paper)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.policy.base import ClientState
from vitmalis.policy.estimates import Estimates
from vitmalis.policy.optimizer import Choice, described
from vitmalis.policy.regions import FirstFrame
from vitmalis.policy.search import ConfigurationSearch

Float64Array = NDArray[np.float64]


class Freshness(ConfigurationSearch):
    """Maximises the F1 of the boxes on the screen, while waiting for the result and while it is shown.

    A result of configuration c arrives with the age T(c), its E2E latency. If every offload had configuration c, its
    boxes would be shown over the ages [T(c), T(c) + T(c) / k] with k offloads in flight, so A(c) times the mean
    F1-by-age there is the F1 of c in the long run. The best of these, g, is what a second is worth. The next offload,
    however, starts from the boxes that are shown now: they age until its result arrives, which costs more where they
    are worse than g, and most before the first result, when there are none. So the worth of c is

        F1 of the present boxes over T(c) / k  +  A(c) F1-by-age over one interval from T(c)  -  g T(c) / k

    where the interval is that of g: a step of policy iteration for the average reward (Howard 1960). From the boxes
    that g itself would show, g's configuration has the highest worth. There is no knee, eta or kappa.

    Latency is known better than A(c): of all c whose worth is within the error of the best, the fastest is taken (the
    one-standard-error rule of Breiman et al. 1984). The error is that of the difference between the F1 of both.

    Args:
        estimate_ahead: as of `ConfigurationSearch`, but on: what a decision takes is lost to the boxes on the screen.
        first_frame: as of `ConfigurationSearch`, but "low": as long as there are no boxes, waiting costs most.
        search: other options of `ConfigurationSearch`.
    """

    def __init__(self, *, estimate_ahead: bool = True, first_frame: FirstFrame = "low", **search: Any) -> None:
        super().__init__(estimate_ahead=estimate_ahead, first_frame=first_frame, **search)

    def _choose(self, state: ClientState, estimates: Estimates) -> Choice:
        """Take the fastest of the candidates that are as good as the best, as far as the estimator knows."""
        latency_s, f1 = estimates.e2e_latency_s, estimates.f1
        interval_s = latency_s / state.offloads_in_flight
        lasting_f1 = f1 * self._decay.mean(latency_s, latency_s + interval_s)
        steady = int(lasting_f1.argmax())
        shown_s = np.full_like(latency_s, interval_s[steady])
        kept = shown_s * self._decay.mean(latency_s, latency_s + shown_s)  # of a result without errors
        worth = self._shown_meanwhile(state, interval_s) + f1 * kept - lasting_f1[steady] * interval_s
        best = int(worth.argmax())
        as_good = worth >= worth[best] - estimates.f1_difference_error(best) * kept[best]
        chosen = int(np.lexsort((-worth, np.where(as_good, latency_s, np.inf)))[0])
        return described(latency_s, f1, chosen, "freshness")

    def _shown_meanwhile(self, state: ClientState, interval_s: Float64Array) -> Float64Array:
        """F1 of the boxes that are known now, summed over the seconds (n,) until they are replaced."""
        if not state.results:
            return np.zeros_like(interval_s)
        age_s, aged_f1 = np.full_like(interval_s, state.result_age_s), float(self._decay.at(state.result_age_s))
        # Below 1 where more objects were lost than boxes of this age lose.
        left = state.retention / aged_f1 if state.retention < aged_f1 else 1.0
        return self._last_f1 * left * interval_s * self._decay.mean(age_s, age_s + interval_s)
