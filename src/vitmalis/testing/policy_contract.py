"""Contract of all policies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest

from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy.base import CachedFrame, ClientState, FloatArray, LookaheadResult, Policy, check_decision
from vitmalis.regions import Motion, RegionGrid
from vitmalis.types import Detections, RgbImage

GRID = RegionGrid(960, 540, window=5)
"""Decision regions of the frames that the states are of."""
DEVICE_KNOWS = frozenset({
    "frame_index", "frame_size", "grid", "frame_interval_s", "time_s", "frames_since_offload", "tracked", "retention",
    "motion", "results", "result_age_frames", "result_age_s", "offloads_in_flight", "image", "cached_frame",
    "ahead",
})  # fmt: skip
"""The device's past, its tracker and its motion analyzer; no reference, no later frame, no trace."""
FRAMES = range(0, 60, 12)
"""Frames that are offloaded."""


def state(frame_index: int) -> ClientState:
    """What a device knows at a frame: one object that is tracked, random motion in all but the first row of regions.

    In its lower half each frame shows the same, and the server has cached the tokens of the one that is 12 before it.
    """
    return ClientState(
        frame_index=frame_index,
        grid=GRID,
        frame_interval_s=1 / 30,
        time_s=frame_index / 30,
        frames_since_offload=min(frame_index, 12),
        tracked=Detections.of([[10, 10, 60, 90]], [0.8], [0]),
        retention=0.9,
        motion=_motion(frame_index) if frame_index else None,
        results=frame_index // 12,
        image=np.vstack([_noise(frame_index), _noise(0)]),
        cached_frame=CachedFrame(frame_index // 12 - 1, frame_index - 12, 4) if frame_index >= 12 else None,
    )


def _noise(seed: int) -> RgbImage:
    return np.random.default_rng(seed).integers(0, 256, (270, 960, 3), np.uint8)


def _motion(frame_index: int) -> Motion:
    shares = np.random.default_rng(frame_index).random(GRID.shape).astype(np.float32)
    shares[0] = 0.0
    return Motion(shares / shares.sum(), 0.2)


class CheckedState:
    """A state that fails the test when a policy reads more than a device can know."""

    def __init__(self, real: ClientState, known: Collection[str] = DEVICE_KNOWS) -> None:
        self._real = real
        self._known = known

    def __getattr__(self, name: str) -> object:
        if name not in self._known:
            raise AssertionError(f"the policy asked for '{name}', which it cannot know")
        return getattr(self._real, name)


class _LastIsBest:
    """A lookahead in which the last candidate is always the best."""

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        return [LookaheadResult(number / len(decisions), 1.0) for number in range(len(decisions))]

    def payload_bytes(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        return np.full(len(decisions), 80_000.0)

    def inference_f1(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        return np.arange(len(decisions)) / len(decisions)

    def transfer_s(
        self, state: ClientState, decisions: Sequence[OffloadDecision], payload_bytes: FloatArray
    ) -> FloatArray:
        return payload_bytes * 1e-6

    def f1_by_age(self, state: ClientState, oldest_s: float) -> FloatArray:
        return np.exp(-np.arange(0.0, oldest_s, state.frame_interval_s))


def outcome(frame_index: int, decision: OffloadDecision) -> OffloadOutcome:
    """The cost of an offload of 80 kB that took 0.56 s; its tokens are cached if it asked for that."""
    cached = decision.caching is not None
    return OffloadOutcome(frame_index, decision, 80_000, 0.01, 0.01, 0.3, 0.2, 0.04, 0.56, tokens_cached=cached)


class PolicyContract:
    """Tests of a policy; see `vitmalis.testing`."""

    make: Callable[[], Policy]

    @pytest.fixture
    def build(self) -> Callable[[], Policy]:
        """Build an instance of the policy that has seen nothing yet."""
        return self.make

    @pytest.fixture
    def policy(self, build: Callable[[], Policy]) -> Policy:
        """A policy with a view of the frames to come, as an oracle needs."""
        return self._with_lookahead(build)

    def test_it_decides_before_any_outcome_and_after_many(self, policy: Policy) -> None:
        """Decisions are valid, and nothing is restored where nothing was downsampled."""
        for index in FRAMES:
            decision = policy.decide(state(index))
            if decision is None:
                assert index, "without a first offload nothing is ever known"
                continue
            check_decision(decision, GRID)
            configuration = decision.configuration
            if decision.downsample_mask is None or not decision.downsample_mask.any():
                chosen = configuration.tau_d, configuration.restoration_point
                expected = 0, configuration.restoration_point if decision.caching else 0
                assert chosen == expected, "nothing is downsampled, so tau_d and restoration_point are 0"
            else:
                assert configuration.tau_d > 0, "regions are downsampled, so tau_d is 1 or 2"
            policy.observe(outcome(index, decision))

    def test_its_decisions_repeat_for_the_same_history(self, build: Callable[[], Policy]) -> None:
        """Two instances that see the same decide the same, so that runs can be repeated."""
        policy, twin = self._with_lookahead(build), self._with_lookahead(build)
        for index in (0, 9, 18):
            decision, other = policy.decide(state(index)), twin.decide(state(index))
            assert (decision is None) == (other is None)
            if decision is None or other is None:
                continue
            assert decision.configuration == other.configuration
            policy.observe(outcome(index, decision))
            twin.observe(outcome(index, other))

    def test_it_says_what_it_needs(self, policy: Policy) -> None:
        """The client asks which of its parts to run."""
        for attribute in ("uses_tracker", "uses_objects", "uses_motion", "estimates_ahead"):
            assert getattr(policy, attribute) in (True, False), attribute
        assert isinstance(policy.stand_in, str)

    def test_it_decides_from_nothing_but_what_a_device_can_know(self, policy: Policy) -> None:
        """No reference, no later frame, no trace."""
        for index in FRAMES:
            decision = policy.decide(CheckedState(state(index)))  # type: ignore[arg-type]
            if decision is not None:
                policy.observe(outcome(index, decision))

    def test_it_reads_the_known_objects_only_if_it_says_so(self, policy: Policy) -> None:
        """The client locates them in the frame only for policies with `uses_objects`."""
        if policy.uses_objects:
            return
        for index in FRAMES:
            policy.decide(CheckedState(state(index), DEVICE_KNOWS - {"tracked", "retention"}))  # type: ignore[arg-type]

    def test_it_estimates_ahead_without_being_changed_by_it(self, build: Callable[[], Policy]) -> None:
        """In real time it estimates in another thread than it decides in, at any time until the next decision."""
        policy, twin = self._with_lookahead(build), self._with_lookahead(build)
        if not policy.estimates_ahead:
            return
        ahead: object = None
        for index in FRAMES:
            known = CheckedState(replace(state(index), ahead=ahead))
            decision, other = policy.decide(known), twin.decide(known)  # type: ignore[arg-type]
            assert (decision is None) == (other is None)
            if decision is None or other is None:
                continue
            ahead = policy.estimate_ahead(known)  # type: ignore[arg-type]
            check_decision(decision, GRID)
            assert decision.configuration == other.configuration
            assert decision.estimates_age_frames in (None, 12)
            policy.observe(outcome(index, decision))
            twin.observe(outcome(index, other))

    @staticmethod
    def _with_lookahead(build: Callable[[], Policy]) -> Policy:
        policy = build()
        policy.attach_lookahead(_LastIsBest())
        return policy
