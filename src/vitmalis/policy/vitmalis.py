"""ViTMAlis: chooses per frame what to downsample, how to compress and where to restore (paper, section IV)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from vitmalis.errors import UserError
from vitmalis.policy.base import ClientState
from vitmalis.policy.estimates import Estimates
from vitmalis.policy.optimizer import Choice, KneeMethod, Urgency, check_method, choose
from vitmalis.policy.search import ConfigurationSearch

Rule = Literal["robust", "paper"]


class ViTMAlis(ConfigurationSearch):
    """Takes the knee of the Pareto frontier, or the lowest latency where freshness is urgent (Algorithm 1).

    An ablation is this policy with other options: see `conf/policy/wo_*.yaml`.

    Args:
        rule: "paper" for Algorithm 1 as it is. "robust" departs from it three times: a slower candidate has to gain
            more F1 than the estimator can be wrong by, a frontier of nearly equal F1 is not stretched until small
            differences count as much as all of the latency, and kappa is at most the F1 that boxes of this age are
            expected to have.
        f1_tie: least gain in F1 that rule "robust" pays latency for; the estimator's error where that is larger.
        f1_span: difference of F1 that rule "robust" weighs like the frontier's whole span of latencies, at least.
        knee: "tradeoff" or "chord", see `vitmalis.policy.optimizer.knee_point`.
        staleness_threshold_s: delta^eta as time; after longer without an offload, the lowest latency is chosen.
        retention_threshold: delta^kappa; with a smaller kappa, the lowest latency is chosen.
        search: options of `ConfigurationSearch`.

    Raises:
        LatencyTablesMissing: there are no latency tables; everything else is valid.
        UserError: an argument is out of range, or a file is missing or does not fit the model.
    """

    def __init__(
        self,
        *,
        rule: Rule = "robust",
        f1_tie: float = 0.01,
        f1_span: float = 0.1,
        knee: KneeMethod = "tradeoff",
        staleness_threshold_s: float = 1.0,
        retention_threshold: float = 0.7,
        **search: Any,
    ) -> None:
        if rule not in get_args(Rule):
            raise UserError(f"policy.rule={rule}: choose one of {', '.join(get_args(Rule))}")
        if not 0 <= f1_tie <= 1:
            raise UserError(f"policy.f1_tie={f1_tie}: give a difference of F1 from 0 to 1")
        if not 0 <= f1_span <= 1:
            raise UserError(f"policy.f1_span={f1_span}: give a difference of F1 from 0 to 1")
        self._robust = rule == "robust"
        self._f1_tie, self._f1_span = f1_tie, f1_span if self._robust else 0.0
        self._knee = check_method(knee)
        self._urgency = Urgency(staleness_threshold_s, retention_threshold)
        super().__init__(**search)

    def _retention(self, state: ClientState) -> float:
        """kappa: the share of objects still tracked; under rule "robust" at most the expected F1 of their boxes."""
        return super()._retention(state) if self._robust else state.retention

    def _choose(self, state: ClientState, estimates: Estimates) -> Choice:
        """Run lines 12 to 20 of Algorithm 1."""
        ties = np.maximum(self._f1_tie, estimates.f1_error) if self._robust else np.zeros(len(estimates.f1))
        since_offload_s = state.frames_since_offload * state.frame_interval_s
        urgent = self._urgency.of(since_offload_s, self._retention(state))
        return choose(estimates.e2e_latency_s, estimates.f1, urgent, self._knee, ties, self._f1_span)
