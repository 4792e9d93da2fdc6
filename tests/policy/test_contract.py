"""What every policy must honour; a new one joins by being registered in `POLICIES`."""

from __future__ import annotations

import pytest

from vitmalis.errors import UserError
from vitmalis.policy import POLICIES, ClientState, OffloadOutcome, Policy, build_policy
from vitmalis.regions import RegionGrid
from vitmalis.types import Detections


def state(frame_index: int) -> ClientState:
    return ClientState(
        frame_index=frame_index,
        grid=RegionGrid(960, 540, window=5),
        frame_interval_s=1 / 30,
        time_s=frame_index / 30,
        frames_since_offload=min(frame_index, 12),
        tracked=Detections.of([[10, 10, 60, 90]], [0.8], [0]),
        retention=0.9,
    )


@pytest.fixture(params=sorted(POLICIES))
def policy(request: pytest.FixtureRequest) -> Policy:
    return build_policy(request.param)


def test_decides_before_any_outcome_and_after_many(policy: Policy) -> None:
    for index in range(0, 60, 12):
        decision = policy.decide(state(index))
        configuration = decision.configuration
        assert configuration.tau_d in (0, 1, 2)
        assert 1 <= configuration.quality <= 100
        assert configuration.restoration_point >= 0
        if decision.downsample_mask is None or not decision.downsample_mask.any():
            assert configuration.restoration_point == 0, "nothing downsampled, nothing to restore"
        policy.observe(OffloadOutcome(index, decision, 80_000, 0.01, 0.01, 0.3, 0.2, 0.04, 0.56))


def test_decisions_repeat_for_the_same_history(policy: Policy) -> None:
    twin = build_policy(next(name for name, kind in POLICIES.items() if type(policy) is kind))
    for index in (0, 9, 18):
        decision, other = policy.decide(state(index)), twin.decide(state(index))
        assert decision.configuration == other.configuration
        outcome = OffloadOutcome(index, decision, 50_000, 0.01, 0.01, 0.3, 0.1, 0.04, 0.46)
        policy.observe(outcome)
        twin.observe(outcome)


def test_says_whether_it_needs_the_tracker(policy: Policy) -> None:
    assert policy.uses_tracker in (True, False)


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"policy 'magic' is unknown: choose one of back2back, trackb2b"):
        build_policy("magic")


def test_unknown_option_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="policy 'back2back' does not take these options"):
        build_policy("back2back", speed=3)


def test_baselines_use_the_papers_jpeg_quality() -> None:
    assert build_policy("back2back").decide(state(0)).configuration.quality == 95
    assert build_policy("trackb2b", quality=80).decide(state(0)).configuration.quality == 80
