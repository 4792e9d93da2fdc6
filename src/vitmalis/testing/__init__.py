"""Contract suites of the extension points, for pytest: what a policy, a tracker or a video source must do to be used.

Subclass one in a test module and say how an instance is made; pytest then runs all of its tests:

    from vitmalis.testing import PolicyContract

    class TestThrifty(PolicyContract):
        make = Thrifty

`make` is called without arguments: a class, a `functools.partial`, or a `staticmethod` (a plain function would become a
method). Where there are many ways to make one, override the fixture `build`. The shipped classes are tested by these
suites, too.
"""

import pytest

pytest.register_assert_rewrite(
    "vitmalis.testing.policy_contract", "vitmalis.testing.tracker_contract", "vitmalis.testing.video_contract"
)

from vitmalis.testing.policy_contract import PolicyContract  # noqa: E402
from vitmalis.testing.tracker_contract import TrackerContract  # noqa: E402
from vitmalis.testing.video_contract import VideoContract  # noqa: E402

__all__ = ["PolicyContract", "TrackerContract", "VideoContract"]
