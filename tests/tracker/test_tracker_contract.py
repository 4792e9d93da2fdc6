"""The shipped trackers keep the contract; a new one joins by its configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hydra import compose, initialize_config_dir

from vitmalis.testing import TrackerContract
from vitmalis.tracker import TRACKERS, Tracker, TrackerOptions, build_tracker, tracker_name
from vitmalis_jobs.run.config import typed

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "tracker").glob("*.yaml"))


def options_of(name: str) -> TrackerOptions:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("evaluate", overrides=[f"tracker={name}"])).client.tracker


class TestShippedTrackers(TrackerContract):
    @pytest.fixture(params=NAMES)
    def build(self, request: pytest.FixtureRequest) -> Callable[[], Tracker]:
        """Every shipped configuration of a tracker."""
        options = options_of(request.param)
        return lambda: build_tracker(options)


def test_every_tracker_has_a_configuration_with_the_defaults_of_the_library() -> None:
    assert set(NAMES) == set(TRACKERS)
    for name in NAMES:
        options = options_of(name)
        assert tracker_name(options) == name
        assert options == type(options)()


def test_options_survive_a_file() -> None:
    for name in NAMES:
        options = options_of(name)
        assert msgspec.json.decode(msgspec.json.encode(options), type=TrackerOptions) == options
