"""Contract of all policies; a new one joins by its entry in `POLICIES` and its configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy import POLICIES, ClientState, Policy, build_policy
from vitmalis.policy.base import LookaheadResult
from vitmalis.regions import Motion, RegionGrid
from vitmalis.types import Detections
from vitmalis_jobs.run.config import typed

CONF = Path(__file__).parents[2] / "conf"
GRID = RegionGrid(960, 540, window=5)


def motion(frame_index: int) -> Motion:
    shares = np.random.default_rng(frame_index).random(GRID.shape).astype(np.float32)
    shares[0] = 0.0
    return Motion(shares / shares.sum(), 0.2)


def state(frame_index: int) -> ClientState:
    return ClientState(
        frame_index=frame_index,
        grid=GRID,
        frame_interval_s=1 / 30,
        time_s=frame_index / 30,
        frames_since_offload=min(frame_index, 12),
        tracked=Detections.of([[10, 10, 60, 90]], [0.8], [0]),
        retention=0.9,
        motion=motion(frame_index) if frame_index else None,
        results=frame_index // 12,
        image=np.random.default_rng(frame_index).integers(0, 256, (540, 960, 3), np.uint8),
    )


class LastIsBest:
    """A lookahead in which the last candidate is always the best."""

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        return [LookaheadResult(number / len(decisions), 1.0) for number in range(len(decisions))]


@pytest.fixture(params=sorted(path.stem for path in (CONF / "policy").glob("*.yaml")))
def build(request: pytest.FixtureRequest, vitmalis_options: dict[str, str]) -> Callable[[], Policy]:
    """Every shipped configuration of a policy, ablations included."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(compose("evaluate", overrides=[f"policy={request.param}"]))
    files = vitmalis_options if "latency_tables" in config.policy_options else {}

    def built() -> Policy:
        policy = build_policy(config.policy_kind, **(config.policy_options | files))
        policy.attach_lookahead(LastIsBest())
        return policy

    return built


@pytest.fixture
def policy(build: Callable[[], Policy]) -> Policy:
    return build()


def test_decides_before_any_outcome_and_after_many(policy: Policy) -> None:
    for index in range(0, 60, 12):
        decision = policy.decide(state(index))
        if decision is None:
            assert index, "without a first offload nothing is ever known"
            continue
        configuration = decision.configuration
        assert configuration.tau_d in (0, 1, 2)
        assert 1 <= configuration.quality <= 100
        assert configuration.restoration_point >= 0
        if decision.downsample_mask is None or not decision.downsample_mask.any():
            assert (configuration.tau_d, configuration.restoration_point) == (0, 0), "nothing downsampled or restored"
        else:
            assert configuration.tau_d > 0
        ways = (decision.downsample_mask is not None, decision.blank_mask is not None, decision.frame_downsampling > 1)
        assert sum(ways) <= 1, "a frame is sent in one way"
        for mask in (decision.downsample_mask, decision.blank_mask):
            assert mask is None or GRID.check(mask) is mask
        policy.observe(OffloadOutcome(index, decision, 80_000, 0.01, 0.01, 0.3, 0.2, 0.04, 0.56))


def test_decisions_repeat_for_the_same_history(build: Callable[[], Policy]) -> None:
    policy, twin = build(), build()
    for index in (0, 9, 18):
        decision, other = policy.decide(state(index)), twin.decide(state(index))
        assert (decision is None) == (other is None)
        if decision is None or other is None:
            continue
        assert decision.configuration == other.configuration
        outcome = OffloadOutcome(index, decision, 50_000, 0.01, 0.01, 0.3, 0.1, 0.04, 0.46)
        policy.observe(outcome)
        twin.observe(outcome)


def test_says_what_it_needs(policy: Policy) -> None:
    assert policy.uses_tracker in (True, False)
    assert policy.uses_objects in (True, False)
    assert policy.uses_motion in (True, False)
    assert isinstance(policy.stand_in, str)


DEVICE_KNOWS = {
    "frame_index", "frame_size", "grid", "frame_interval_s", "time_s", "frames_since_offload", "tracked", "retention",
    "motion", "results", "result_age_frames", "result_age_s", "offloads_in_flight", "image",
}  # fmt: skip
"""The device's past, its tracker and its motion analyzer; no reference, no later frame, no trace."""


class CheckedState:
    """A state that fails the test when a policy reads more than a device can know."""

    def __init__(self, real: ClientState, known: Collection[str] = DEVICE_KNOWS) -> None:
        self._real = real
        self._known = known

    def __getattr__(self, name: str) -> object:
        if name not in self._known:
            raise AssertionError(f"the policy asked for '{name}', which it cannot know")
        return getattr(self._real, name)


def test_decides_from_nothing_but_what_a_device_can_know(policy: Policy) -> None:
    for index in range(0, 60, 12):
        decision = policy.decide(CheckedState(state(index)))  # type: ignore[arg-type]
        if decision is not None:
            policy.observe(OffloadOutcome(index, decision, 80_000, 0.01, 0.01, 0.3, 0.2, 0.04, 0.56))


def test_reads_the_known_objects_only_if_it_says_so(policy: Policy) -> None:
    """The client locates them in the frame only for policies that use them."""
    if policy.uses_objects:
        return
    known = DEVICE_KNOWS - {"tracked", "retention"}
    for index in range(0, 60, 12):
        policy.decide(CheckedState(state(index), known))  # type: ignore[arg-type]


def test_every_known_policy_has_a_configuration() -> None:
    kinds = set()
    for path in (CONF / "policy").glob("*.yaml"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            kinds.add(typed(compose("evaluate", overrides=[f"policy={path.stem}"])).policy_kind)
    assert kinds == set(POLICIES)


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"policy 'magic' is unknown: choose one of back2back, trackb2b"):
        build_policy("magic")


def test_unknown_option_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="policy 'back2back' does not take these options"):
        build_policy("back2back", speed=3)


def test_an_option_of_the_wrong_type_is_named() -> None:
    with pytest.raises(UserError, match=r"policy 'trackud': latency_threshold_s=soon: Expected `float`"):
        build_policy("trackud", latency_threshold_s="soon")


def test_a_bug_in_a_constructor_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Buggy(Policy):
        def __init__(self, qualities: Sequence[int] = (90,)) -> None:
            self._best = len(max(qualities))  # type: ignore[arg-type]

        def decide(self, state: ClientState) -> OffloadDecision:
            raise NotImplementedError

    monkeypatch.setitem(POLICIES, "buggy", Buggy)
    with pytest.raises(TypeError, match="has no len"):
        build_policy("buggy", qualities=[80])


def test_baselines_use_the_papers_jpeg_quality() -> None:
    assert build_policy("back2back").decide(state(0)).configuration.quality == 95
    assert build_policy("trackb2b", quality=80).decide(state(0)).configuration.quality == 80
