"""What estimating ahead takes on the virtual clock, by hand: 3 ms of estimation and 1 ms of optimization."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tests.client.scripted import write_video
from tests.virtual.test_virtual_client import STAGES, TABLES, play
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, build_policy
from vitmalis.policy.back2back import Back2Back


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", ["freshness", "vitmalis"])
def test_estimating_ahead_takes_the_estimators_time_out_of_the_decision(
    tmp_path: Path, vitmalis_options: dict[str, str], name: str, ahead: bool
) -> None:
    policy = build_policy(name, estimate_ahead=ahead, restoration_points=[0], **vitmalis_options)
    offloads = play(write_video(tmp_path / "red.mp4"), policy).offloads()
    assert len(offloads) >= 4
    # Before the first result nothing can be downsampled, so the second decision estimates what can be then.
    early, later = offloads[:2], offloads[2:]
    assert [(o.decision_s, o.estimation_s, o.optimization_s, o.ahead_s) for o in early] == [
        (0.004, 0.003, 0.001, None)
    ] * 2
    expected = (0.001, 0.0, 0.001, 0.003) if ahead else (0.004, 0.003, 0.001, None)
    assert [(o.decision_s, o.estimation_s, o.optimization_s, o.ahead_s) for o in later] == [expected] * len(later)
    ages = [after.frame_index - before.frame_index if ahead else None for before, after in pairwise(offloads[1:])]
    assert [o.estimates_age_frames for o in later] == ages


class Frames(Back2Back):
    """A policy that estimates the number of its frame, and notes what each decision knows."""

    estimates_ahead = True

    def __init__(self) -> None:
        super().__init__()
        self.known: list[tuple[int, object]] = []

    def decide(self, state: ClientState) -> OffloadDecision:
        self.known.append((state.frame_index, state.ahead))
        return super().decide(state)

    def estimate_ahead(self, state: ClientState) -> int:
        return state.frame_index


def test_estimation_that_takes_longer_than_an_offload_follows_the_one_before(tmp_path: Path) -> None:
    policy = Frames()
    slow = msgspec.structs.replace(TABLES, stages=msgspec.structs.replace(STAGES, estimation_s=0.4))
    play(write_video(tmp_path / "red.mp4"), policy, tables=slow)
    # An offload each 0.25 s. Frame 0 is estimated until 0.4 s; frame 2, sent at 0.25 s, only then, until 0.8 s.
    assert policy.known == [(0, None), (2, None), (4, 0), (7, 0), (9, 2)]
