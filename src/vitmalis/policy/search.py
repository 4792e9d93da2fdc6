"""The search that content-aware policies share: estimate every configuration for the frame at hand, then choose one."""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import (
    F1ByAge,
    LatencyTables,
    LatencyTablesMissing,
    SizeCorrection,
    configuration_space,
    e2e_latency_s,
    load_latency_tables,
    load_pair,
)
from vitmalis.estimation.decay import AGES_S, F1
from vitmalis.estimation.features import DOWNSAMPLING_TYPES, QUALITIES, RESTORATION_POINTS
from vitmalis.offload import Assumptions, OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState, Lookahead, Policy
from vitmalis.policy.candidate_treatments import CACHED_F1_LOSS, CandidateCaching, CandidateTreatments
from vitmalis.policy.content_estimator import FIRST_FRAME_F1_LOSS, ContentEstimator
from vitmalis.policy.estimates import ContentEstimates, Estimates, EstimatesAhead, explain
from vitmalis.policy.injection import Injection, Truth
from vitmalis.policy.network import NetworkEstimate
from vitmalis.policy.optimizer import Choice
from vitmalis.policy.region_caching import CHANGE_THRESHOLD, REACH, REFRESH_S
from vitmalis.policy.regions import FirstFrame, FrameContent, RegionClassifier
from vitmalis.regions import Motion, RegionType
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD

Float64Array = NDArray[np.float64]


class ConfigurationSearch(Policy):
    """Estimates size, latency and accuracy of every configuration; a subclass chooses among them.

    Before the first result nothing is known about objects: every region keeps its resolution, or with `first_frame` all
    of them may lose it.

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
        estimate_ahead: whether size and accuracy are estimated while the offload before is in flight, from its frame,
            which spares the decision that time; not in the paper. See `ContentEstimator`.
        cached_regions: whether each candidate may also have the unchanged regions cached, see `CandidateTreatments`;
            not in the paper.
        change_threshold, reach, refresh_s, cached_f1_loss: which regions count as unchanged, and what caching them
            costs, see `CandidateCaching`.
        first_frame: "low" for candidates at low resolution throughout until there is a result, see `RegionClassifier`.
        first_frame_f1_loss: what F1 such a frame is expected to lose, by restoration point from 0.
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
        estimate_ahead: bool = False,
        cached_regions: bool = False,
        change_threshold: float = CHANGE_THRESHOLD,
        reach: int = REACH,
        refresh_s: float = REFRESH_S,
        cached_f1_loss: float = CACHED_F1_LOSS,
        first_frame: FirstFrame = "full",
        first_frame_f1_loss: Sequence[float] = FIRST_FRAME_F1_LOSS,
        inject: Sequence[Truth] = (),
    ) -> None:
        if 0 not in tau_ds:
            raise UserError(f"policy.tau_ds={list(tau_ds)}: it must contain 0, for frames with nothing to downsample")
        space = configuration_space(qualities, tau_ds, restoration_points)
        self._network = NetworkEstimate(prior_uplink_mbps, prior_rtt_ms, network_window)
        self._decay = F1ByAge(decay_ages_s, decay_f1)
        self._last_f1 = 1.0  # expected of the latest result
        if not 0 <= size_correction <= 1:
            raise UserError(f"policy.size_correction={size_correction}: give a weight from 0 (off) to 1")
        self._correction = SizeCorrection(size_correction)
        self._classifier = RegionClassifier(motion_threshold, relevance_threshold, first_frame)
        self.estimates_ahead = estimate_ahead
        caching = change_threshold, reach, refresh_s, restoration_points, cached_f1_loss
        self._caching = CandidateCaching(*caching) if cached_regions else None
        self._injection = Injection(inject)
        # Estimators before the tables, which a run measures where they are missing.
        pair = load_pair(model, estimator, estimators, window, downsampling_factor)
        self._content_estimator = ContentEstimator(pair, space, first_frame_f1_loss)
        self._tables = _tables(latency_tables, model)
        self._tables.check_geometry(window, downsampling_factor, f"policy.latency_tables={latency_tables}")
        self.stand_in = "; ".join(filter(None, (pair.stand_in(self._tables), self._injection.stand_in)))
        self._check_tables()

    @abc.abstractmethod
    def _choose(self, state: ClientState, estimates: Estimates) -> Choice:
        """Choose one of the candidates."""

    def attach_lookahead(self, lookahead: Lookahead) -> None:
        """Take the virtual clock's view of the frames to come, for injected true values."""
        self._injection.attach_lookahead(lookahead)

    def observe(self, outcome: OffloadOutcome) -> None:
        """Update the estimates of network, queue and decay, the size correction, and what the server caches."""
        self._network.observe(outcome)
        if self._caching:
            self._caching.observe(outcome)
        explanation = outcome.decision.explanation
        if explanation is None:
            return
        assumed = outcome.decision.assumed
        uncorrected_bytes = explanation.payload_bytes[explanation.chosen] / assumed.size_factor
        self._correction.observe(float(uncorrected_bytes), outcome.payload_bytes)
        f1 = float(explanation.f1[explanation.chosen])
        if outcome.agreement is not None:
            self._decay.observe(outcome.agreement, outcome.agreement_age_s, expected=(f1 * assumed.known_f1) ** 0.5)
        self._last_f1 = f1

    def decide(self, state: ClientState) -> OffloadDecision:
        """Estimate all configurations from the frame's known content, and choose one."""
        content = self._classifier.classify(state)
        types = content.region_types
        treatments = self._caching.treatments(state, types) if self._caching else CandidateTreatments(types)
        start_s = time.perf_counter()
        estimates = self._estimate(state, content, treatments)
        decision_for = partial(treatments.decision, estimates.candidates)
        estimates = self._injection.injected(state, decision_for, estimates, self._network.uplink_mbps)
        self._decay = self._injection.decay(state, self._decay, 2 * float(estimates.e2e_latency_s.max()))
        estimated_s = time.perf_counter()
        choice = self._choose(state, estimates)
        chosen_s = time.perf_counter()
        decision = decision_for(choice.chosen)
        if treatments.frame is not None and self._caching:
            self._caching.send(treatments.frame, decision)
        return replace(
            decision,
            explanation=explain(state, content, self._network, estimates, choice, self._retention(state)),
            estimation_s=estimated_s - start_s,
            optimization_s=chosen_s - estimated_s,
            estimates_age_frames=estimates.age_frames,
            assumed=Assumptions(self._correction.factor, self._last_f1),
        )

    def estimate_ahead(self, state: ClientState) -> EstimatesAhead:
        """Estimate size and accuracy of all configurations for later frames from the content of this one."""
        content = self._classifier.classify(state)
        return self._content_estimator.ahead(state, content)

    def _retention(self, state: ClientState) -> float:
        """kappa: the share of objects still tracked, at most the F1 that boxes of their age are expected to have."""
        return min(state.retention, float(self._decay.at(state.result_age_s)))

    def _estimate(self, state: ClientState, content: FrameContent, treatments: CandidateTreatments) -> Estimates:
        """Estimate all candidates of this frame; size and accuracy not again where that was done ahead."""
        known, age_frames = self._content_estimator.at_decision(state, content)
        return replace(self._with_latency(treatments.with_cached(known), treatments), age_frames=age_frames)

    def _with_latency(self, known: ContentEstimates, treatments: CandidateTreatments) -> Estimates:
        """Add the latency, with the network's present estimate and this frame's regions (equation 2)."""
        payload_bytes = known.payload_bytes * self._correction.factor
        low, cached = treatments.low_and_cached(known.candidates)
        latency_s = e2e_latency_s(
            self._tables,
            known.candidates,
            low,
            payload_bytes,
            self._network.uplink_mbps,
            self._network.rtt_s,
            self._network.queue_s,
            cached,
        )
        return Estimates(known.candidates, payload_bytes, latency_s, known.f1, known.f1_error, cached)

    def _check_tables(self) -> None:
        """Estimate a synthetic frame with regions of both types, so that incomplete tables fail before a run."""
        types = np.array([[RegionType.SBR, RegionType.CMR]], np.int8)
        none = np.zeros(types.shape)
        content = FrameContent(Motion(none.astype(np.float32), 0.0), none, none, types)
        self._with_latency(self._content_estimator.of(content), CandidateTreatments(types))


def _tables(path: str | None, model: str) -> LatencyTables:
    if path is None:
        raise LatencyTablesMissing(
            f"policy.latency_tables: none were given; measure them with `python -m profiling.latency model={model}`"
        )
    tables = load_latency_tables(Path(path))
    if tables.model != model:
        raise UserError(f"policy.latency_tables={path}: measured with model '{tables.model}', not '{model}'")
    return tables
