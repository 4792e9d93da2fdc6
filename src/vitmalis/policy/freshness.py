"""Freshness: chooses the configuration with the highest expected rendering F1, the metric itself (not in the paper)."""

from __future__ import annotations

import numpy as np

from vitmalis.policy.base import ClientState
from vitmalis.policy.estimates import Estimates
from vitmalis.policy.optimizer import Choice, described
from vitmalis.policy.search import ConfigurationSearch


class Freshness(ConfigurationSearch):
    """Maximises A(c) times the mean F1 of boxes over the ages at which the result of c will be shown.

    A result arrives with the age T(c), its E2E latency, and is shown, tracked, until the next one replaces it. If that
    is configured alike, it arrives after another T(c) / k with k offloads in flight, so the ages are
    [T(c), T(c) (1 + 1/k)]. This weighs latency and accuracy by what they do to the boxes on the screen, in place of the
    knee, eta and kappa of Algorithm 1: how much of F1 is left at an age is learned offline and from the scene.

    Args:
        search: options of `ConfigurationSearch`.
    """

    def _choose(self, state: ClientState, estimates: Estimates) -> Choice:
        """Take the best candidate, of equals the fastest."""
        latency_s, f1 = estimates.e2e_latency_s, estimates.f1
        shown_until_s = latency_s * (1 + 1 / state.offloads_in_flight)
        rendered_f1 = f1 * self._decay.mean(latency_s, shown_until_s)
        chosen = int(np.lexsort((latency_s, -np.round(rendered_f1, 12)))[0])
        return described(latency_s, f1, chosen, "freshness")
