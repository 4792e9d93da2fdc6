"""A contextual bandit over a few configurations: learns what pays from what the device sees alone (not in the paper).

It has no estimators and no profile of the server, so it bounds what those are worth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import Candidates
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import ClientState, Policy
from vitmalis.policy.estimates import Estimates, explain
from vitmalis.policy.network import NetworkEstimate
from vitmalis.policy.optimizer import Reason, described
from vitmalis.policy.regions import FrameContent, RegionClassifier, decision_of
from vitmalis.regions.classify import DOWNSAMPLED_TYPES, MOTION_THRESHOLD, RELEVANCE_THRESHOLD
from vitmalis.types import Configuration

FloatArray = NDArray[np.float64]

ARMS = ((0, 75, 0), (0, 95, 0), (2, 75, 4), (2, 90, 4), (2, 75, 0), (1, 75, 4))
"""(tau_d, quality, restoration point) of the default arms."""
_FEATURES = 4
_RIDGE = 1.0
_REFERENCE_MBPS = 10.0
"""Throughput that counts as neither fast nor slow."""


class Arm:
    """What is known of one configuration: a ridge regression of its reward on the context, and means of its costs.

    Args:
        configuration: of its offloads.
        features: length of the context.
    """

    def __init__(self, configuration: Configuration, features: int) -> None:
        self.configuration = configuration
        self.tried = False
        self.payload_bytes = 0.0
        self.e2e_latency_s = 0.0
        self._results = 0
        self._gram = _RIDGE * np.eye(features)
        self._moment = np.zeros(features)

    def count(self, outcome: OffloadOutcome) -> None:
        """Update the mean costs with an offload of this configuration."""
        self._results += 1
        self.payload_bytes += (outcome.payload_bytes - self.payload_bytes) / self._results
        self.e2e_latency_s += (outcome.e2e_latency_s - self.e2e_latency_s) / self._results

    def learn(self, context: FloatArray, reward: float) -> None:
        """Learn the reward (0..1) of an offload with this configuration in a context (features,)."""
        self._gram += np.outer(context, context)
        self._moment += reward * context

    def expect(self, context: FloatArray) -> tuple[float, float]:
        """Expected reward in a context, and its standard error in units of that of a reward."""
        inverse = np.linalg.inv(self._gram)
        mean = float(context @ inverse @ self._moment)
        return float(np.clip(mean, 0.0, 1.0)), float(np.sqrt(context @ inverse @ context))


class Bandit(Policy):
    """LinUCB (Li et al., WWW 2010) over a few configurations.

    The reward of an offload is how well its boxes, tracked to the frame of the next offload, agree with the result of
    that one: fast and accurate offloads both score. A device sees it one offload later. The context is the throughput,
    the motion of the frame and the share of regions that could be downsampled. Nothing is drawn at random: arms that
    were never tried go first, in the order of `arms`; then the highest upper confidence bound, of equals the first.

    Args:
        arms: (tau_d, quality, restoration point) of each configuration, some with tau_d 0, for frames with nothing to
            downsample.
        exploration: width of the confidence bound, in standard errors; 0 always takes the best so far.
        motion_threshold, relevance_threshold: delta^m and delta^rho, see `vitmalis.regions.classify`.
        prior_uplink_mbps, prior_rtt_ms: assumed of the network until the first result.
        network_window: number of recent offloads that the network is estimated from.

    Raises:
        UserError: an argument is out of range.
    """

    uses_tracker = True
    uses_motion = True

    def __init__(
        self,
        *,
        arms: Sequence[Sequence[int]] = ARMS,
        exploration: float = 0.3,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        prior_uplink_mbps: float = 10.0,
        prior_rtt_ms: float = 40.0,
        network_window: int = 2,
    ) -> None:
        if exploration < 0:
            raise UserError(f"policy.exploration={exploration}: give a number that is not negative")
        self._exploration = exploration
        self._classifier = RegionClassifier(motion_threshold, relevance_threshold)
        self._network = NetworkEstimate(prior_uplink_mbps, prior_rtt_ms, network_window)
        self._arms = [Arm(configuration, _FEATURES) for configuration in _configurations(arms)]
        self._unrewarded: dict[int, tuple[Arm, FloatArray]] = {}  # arm and context, by frame of the offload

    def decide(self, state: ClientState) -> OffloadDecision:
        """Choose the arm with the highest upper confidence bound."""
        content = self._classifier.classify(state)
        start_s = time.perf_counter()
        decisions = [decision_of(arm.configuration, content.region_types) for arm in self._arms]
        arms = [arm for arm, d in zip(self._arms, decisions, strict=True) if d.configuration == arm.configuration]
        context = self._context(content)
        rewards, errors = (np.array(column) for column in zip(*(arm.expect(context) for arm in arms), strict=True))
        expected_s = time.perf_counter()
        estimates = _estimates(arms, rewards, errors)
        chosen, reason = self._choose(arms, rewards, errors)
        choice = described(estimates.e2e_latency_s, rewards, chosen, reason)
        arms[chosen].tried = True
        self._unrewarded[state.frame_index] = arms[chosen], context
        return replace(
            decision_of(arms[chosen].configuration, content.region_types),
            explanation=explain(state, content, self._network, estimates, choice, state.retention),
            estimation_s=expected_s - start_s,
            optimization_s=time.perf_counter() - expected_s,
        )

    def _choose(self, arms: Sequence[Arm], rewards: FloatArray, errors: FloatArray) -> tuple[int, Reason]:
        """Index of the arm to use, and why."""
        best = int(np.argmax(rewards))
        if untried := [number for number, arm in enumerate(arms) if not arm.tried]:
            return untried[0], "explore"
        chosen = int(np.argmax(np.round(rewards + self._exploration * errors, 12)))
        return chosen, "exploit" if chosen == best else "explore"

    def _context(self, content: FrameContent) -> FloatArray:
        """Features of a decision: 1, throughput on a logarithmic scale, motion, share of regions that are no DOR."""
        speed = float(np.clip(np.log2(self._network.uplink_mbps / _REFERENCE_MBPS), -3, 3)) / 3
        background = np.isin(content.region_types, DOWNSAMPLED_TYPES[2]).mean()
        return np.array([1.0, speed, content.motion.frame_motion, background])

    def observe(self, outcome: OffloadOutcome) -> None:
        """Learn the reward of the offload that the known boxes stem from, and what this one cost."""
        self._network.observe(outcome)
        before = self._unrewarded.pop(outcome.agreement_frame_index, None)
        if before is not None and outcome.agreement is not None:
            arm, context = before
            arm.learn(context, outcome.agreement)
        if outcome.frame_index in self._unrewarded:
            self._unrewarded[outcome.frame_index][0].count(outcome)
        # The boxes of earlier offloads are no longer known: they were replaced, or the offload was lost.
        earliest = outcome.agreement_frame_index
        self._unrewarded = {frame: arm for frame, arm in self._unrewarded.items() if frame > earliest}


def _estimates(arms: Sequence[Arm], rewards: FloatArray, errors: FloatArray) -> Estimates:
    """Mean costs of arms so far, 0 without a result, and as their F1 the expected rewards."""
    return Estimates(
        Candidates.of([arm.configuration for arm in arms]),
        payload_bytes=np.array([arm.payload_bytes for arm in arms]),
        e2e_latency_s=np.array([arm.e2e_latency_s for arm in arms]),
        f1=rewards,
        f1_error=errors,
        cached_regions=np.zeros(len(arms)),
    )


def _configurations(arms: Sequence[Sequence[int]]) -> list[Configuration]:
    """The arms as configurations.

    Raises:
        UserError: fewer than two, two that are equal, none with tau_d 0, or one that is no configuration.
    """
    found = [Configuration(*arm) for arm in arms if len(arm) == 3]
    valid = all(c.tau_d in DOWNSAMPLED_TYPES and 1 <= c.quality <= 100 and c.restoration_point >= 0 for c in found)
    plain = any(c.tau_d == 0 for c in found)
    if not (valid and plain and 2 <= len(found) == len(arms) == len(set(found))):
        raise UserError(
            f"policy.arms={[list(arm) for arm in arms]}: give two or more different [tau_d, quality, restoration "
            "point], with tau_d 0, 1 or 2, one of them 0, and quality 1 to 100"
        )
    return found
