"""Moments as a running policy makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitmalis.detector import load_detector
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy
from vitmalis.regions import Motion
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Configuration, Detections
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.profiling.samples.config import SamplesConfig
from vitmalis_jobs.profiling.samples.on_policy import ExploringPolicy, played

GRID = RegionGrid(336, 320, 5)


class Always(Policy):
    """Sends everything at quality 90."""

    uses_motion = True

    def decide(self, state: ClientState) -> OffloadDecision:
        return OffloadDecision(Configuration(0, 90, 0))


def state(frame_index: int) -> ClientState:
    motion = np.zeros(GRID.shape, np.float32)
    motion[0, 0] = 1.0  # one region moves and has no object: tau_d 1 downsamples it, 2 all of them
    return ClientState(frame_index, GRID, 0.1, 0.0, tracked=Detections.empty(), motion=Motion(motion, 0.1), results=1)


def test_explored_configurations_are_of_the_whole_space_with_the_masks_of_the_frame() -> None:
    policy = ExploringPolicy(Always(), 1.0, np.random.default_rng(0))
    decisions = [policy.decide(state(frame)) for frame in range(200)]
    assert [known.frame_index for known in policy.states] == list(range(200))
    for decision in decisions:
        mask = decision.downsample_mask
        downsampled = 0 if mask is None else int(mask.sum())
        assert downsampled == {0: 0, 1: 1, 2: GRID.region_patches.size}[decision.configuration.tau_d]
    assert len({decision.configuration for decision in decisions}) > 50
    assert policy.uses_motion
    assert not policy.uses_tracker


def test_without_exploration_the_policy_decides() -> None:
    policy = ExploringPolicy(Always(), 0.0, np.random.default_rng(0))
    assert all(policy.decide(state(frame)).configuration == Configuration(0, 90, 0) for frame in range(20))


def config_of(*overrides: str) -> SamplesConfig:
    return checked(compose("profile_samples", overrides), SamplesConfig)


def test_samples_of_a_policy_depend_on_it_and_not_on_a_drawn_age() -> None:
    tracked, on_policy = config_of().settings(), config_of("moments=on_policy").settings()
    assert "staleness_s" in tracked
    assert "on_policy" not in tracked
    assert on_policy["on_policy"]["exploration"] == 0.1
    assert on_policy["on_policy"]["policy"]["kind"] == "vitmalis"
    assert "staleness_s" not in on_policy
    assert on_policy != config_of("moments=on_policy", "on_policy.exploration=0.5").settings()


def test_moments_are_decisions_of_a_run_and_the_same_again(tmp_path: Path) -> None:
    path, config = tmp_path / "square.mp4", config_of("on_policy.capacity_scale=2")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images = [np.full((320, 336, 3), 90, np.uint8) for _ in range(16)]
    for step, image in enumerate(images):
        image[100:164, 10 + 4 * step : 74 + 4 * step] = noise
    write_clip(path, images, 10.0, (336, 320))
    clip = VideoSpec("square", str(path), 10.0, 0, 16, 336, 320)
    device = config.client.tracker, config.client.motion
    runs = [
        list(played(clip, [8, 15], load_detector("vitdet_tiny"), config.on_policy, device, tmp_path, seed=1))
        for _ in range(2)
    ]
    frames = list(open_video(clip))
    assert [frame for frame, _ in runs[0]] == [8, 15]
    for (_, moment), (_, again) in zip(*runs, strict=True):
        assert moment.kind == "on_policy"
        assert moment.staleness_frames > 0
        np.testing.assert_array_equal(moment.image, frames[moment.frame_index])
        np.testing.assert_array_equal(moment.motion.region_motion, again.motion.region_motion)
        assert moment.frame_index == again.frame_index
    assert runs[0][0][1].frame_index >= 8
