"""The search that content-aware policies share: estimate every configuration for the frame at hand, then choose one."""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import (
    Candidates,
    F1ByAge,
    LatencyTables,
    LatencyTablesMissing,
    SizeCorrection,
    candidate_features,
    configuration_space,
    e2e_latency_s,
    load_latency_tables,
    load_pair,
)
from vitmalis.estimation.decay import AGES_S, F1
from vitmalis.estimation.features import DOWNSAMPLING_TYPES, QUALITIES, RESTORATION_POINTS
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState, Lookahead, Policy
from vitmalis.policy.estimates import Estimates, explain
from vitmalis.policy.injection import Injection, Truth
from vitmalis.policy.network import NetworkEstimate
from vitmalis.policy.optimizer import Choice
from vitmalis.policy.regions import FrameContent, RegionClassifier, decision_of
from vitmalis.regions import Motion, RegionType
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD, task_relevance

Float64Array = NDArray[np.float64]


class ConfigurationSearch(Policy):
    """Estimates size, latency and accuracy of every configuration; a subclass chooses among them.

    Before the first result nothing is known about objects, so every region keeps its resolution.

    Args:
        latency_tables: file of `python -m profiling.latency` for this device, server and model.
        model: name of the server's model, whose estimators are loaded.
        window, downsampling_factor: w and d of its decision regions; a window of None fits any tables and estimators.
        estimator: "mlp", "linear" or "mean" (offline means per configuration).
        estimators: folder with the estimators; None for those in the package.
        qualities, tau_ds, restoration_points: the configuration space; tau_ds contains 0, for frames with nothing to
            downsample.
        motion_threshold, relevance_threshold: delta^m and delta^rho, see `vitmalis.regions.classify`.
        prior_uplink_mbps, prior_rtt_ms: assumed of the network until the first result.
        network_window: number of recent offloads that network and queue are estimated from.
        decay_ages_s, decay_f1: offline curve of the F1 of tracked boxes by age, see `vitmalis.estimation.F1ByAge`.
        size_correction: 0 for the paper's estimate; above, the weight of the last payload in an extension that learns
            the scene's texture, see `vitmalis.estimation.SizeCorrection`.
        inject: estimates that true values replace, see `vitmalis.policy.injection`; on the virtual clock only.

    Raises:
        LatencyTablesMissing: there are no latency tables; everything else is valid.
        UserError: an argument is out of range, or a file is missing or does not fit the model.
    """

    uses_tracker = True
    uses_motion = True

    def __init__(
        self,
        *,
        latency_tables: str | None = None,
        model: str = "vitdet_tiny",
        window: int | None = None,
        downsampling_factor: int = 2,
        estimator: str = "mlp",
        estimators: str | None = None,
        qualities: Sequence[int] = QUALITIES,
        tau_ds: Sequence[int] = DOWNSAMPLING_TYPES,
        restoration_points: Sequence[int] = RESTORATION_POINTS,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        prior_uplink_mbps: float = 10.0,
        prior_rtt_ms: float = 40.0,
        network_window: int = 2,
        decay_ages_s: Sequence[float] = AGES_S,
        decay_f1: Sequence[float] = F1,
        size_correction: float = 0.0,
        inject: Sequence[Truth] = (),
    ) -> None:
        if 0 not in tau_ds:
            raise UserError(f"policy.tau_ds={list(tau_ds)}: it must contain 0, for frames with nothing to downsample")
        self._space = configuration_space(qualities, tau_ds, restoration_points)
        self._network = NetworkEstimate(prior_uplink_mbps, prior_rtt_ms, network_window)
        self._decay = F1ByAge(decay_ages_s, decay_f1)
        self._last_f1 = 1.0  # expected of the latest result
        if not 0 <= size_correction <= 1:
            raise UserError(f"policy.size_correction={size_correction}: give a weight from 0 (off) to 1")
        self._correction = SizeCorrection(size_correction)
        self._classifier = RegionClassifier(motion_threshold, relevance_threshold)
        self._injection = Injection(inject)
        # Estimators before the tables, which a run measures where they are missing.
        self._pair = load_pair(model, estimator, estimators, window, downsampling_factor)
        self._tables = _tables(latency_tables, model)
        self._tables.check_geometry(window, downsampling_factor, f"policy.latency_tables={latency_tables}")
        self.stand_in = "; ".join(filter(None, (self._pair.stand_in(self._tables), self._injection.stand_in)))
        self._check_tables()

    @abc.abstractmethod
    def _choose(self, state: ClientState, estimates: Estimates) -> Choice:
        """Choose one of the candidates."""

    def attach_lookahead(self, lookahead: Lookahead) -> None:
        """Take the virtual clock's view of the frames to come, for injected true values."""
        self._injection.attach_lookahead(lookahead)

    def observe(self, outcome: OffloadOutcome) -> None:
        """Update the estimates of network, queue and decay, and the size correction."""
        self._network.observe(outcome)
        explanation = outcome.decision.explanation
        if explanation is None:
            return
        # The factor is still that of the decision: it only changes here.
        uncorrected_bytes = explanation.payload_bytes[explanation.chosen] / self._correction.factor
        self._correction.observe(float(uncorrected_bytes), outcome.payload_bytes)
        f1, last_f1 = float(explanation.f1[explanation.chosen]), self._last_f1
        if outcome.agreement is not None:
            self._decay.observe(outcome.agreement, outcome.agreement_age_s, expected=(f1 * last_f1) ** 0.5)
        self._last_f1 = f1

    def decide(self, state: ClientState) -> OffloadDecision:
        """Estimate all configurations from the frame's known content, and choose one."""
        content = self._classifier.classify(state)
        start_s = time.perf_counter()
        estimates = self._estimate(content, self._learned_relevance(state))
        estimates = self._injection.injected(state, content.region_types, estimates, self._network.uplink_mbps)
        self._decay = self._injection.decay(state, self._decay, 2 * float(estimates.e2e_latency_s.max()))
        estimated_s = time.perf_counter()
        choice = self._choose(state, estimates)
        chosen_s = time.perf_counter()
        return replace(
            decision_of(estimates.candidates.configuration(choice.chosen), content.region_types),
            explanation=explain(state, content, self._network, estimates, choice, self._retention(state)),
            estimation_s=estimated_s - start_s,
            optimization_s=chosen_s - estimated_s,
        )

    def _retention(self, state: ClientState) -> float:
        """kappa: the share of objects still tracked, at most the F1 that boxes of their age are expected to have."""
        return min(state.retention, float(self._decay.at(state.result_age_s)))

    def _learned_relevance(self, state: ClientState) -> Float64Array | None:
        """Relevance over the regions that the estimators learned with; None where those are the frame's own."""
        grid = self._pair.grid(state.grid)
        return None if grid == state.grid else task_relevance(grid, state.tracked)

    def _estimate(self, content: FrameContent, learned_relevance: Float64Array | None = None) -> Estimates:
        """Estimate all configurations in one pass (equations 1 to 3).

        A tau_d > 0 without a region of its types is left out: it is the same as tau_d = 0, with nothing to restore.
        """
        features = candidate_features(self._space, content.motion, content.relevance, content.region_types)
        if learned_relevance is not None:
            features = features.over_regions(learned_relevance, content.region_types.size)
        distinct = (self._space.tau_d == 0) | (features.downsampled_regions > 0)
        space = self._space
        candidates = Candidates(space.tau_d[distinct], space.quality[distinct], space.restoration_point[distinct])
        payload_bytes = self._pair.size.predict(features.size[distinct]) * self._correction.factor
        latency_s = e2e_latency_s(
            self._tables,
            candidates,
            features.downsampled_regions[distinct],
            payload_bytes,
            self._network.uplink_mbps,
            self._network.rtt_s,
            self._network.queue_s,
        )
        accuracy = features.accuracy[distinct]
        f1, f1_error = self._pair.accuracy.predict(accuracy), self._pair.accuracy.error(accuracy)
        return Estimates(candidates, payload_bytes, latency_s, f1, f1_error)

    def _check_tables(self) -> None:
        """Estimate a synthetic frame with regions of both types, so that incomplete tables fail before a run."""
        types = np.array([[RegionType.SBR, RegionType.CMR]], np.int8)
        self._estimate(FrameContent(Motion(np.zeros(types.shape, np.float32), 0.0), np.zeros(types.shape), types))


def _tables(path: str | None, model: str) -> LatencyTables:
    if path is None:
        raise LatencyTablesMissing(
            f"policy.latency_tables: none were given; measure them with `python -m profiling.latency model={model}`"
        )
    tables = load_latency_tables(Path(path))
    if tables.model != model:
        raise UserError(f"policy.latency_tables={path}: measured with model '{tables.model}', not '{model}'")
    return tables
