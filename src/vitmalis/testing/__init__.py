"""Contract suites of the extension points, for pytest: what a policy, tracker, video or detector must do.

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
    *(f"vitmalis.testing.{kind}_contract" for kind in ("detector", "policy", "tracker", "video"))
)

from vitmalis.testing.detector_contract import DetectorContract  # noqa: E402
from vitmalis.testing.policy_contract import PolicyContract  # noqa: E402
from vitmalis.testing.tracker_contract import TrackerContract  # noqa: E402
from vitmalis.testing.video_contract import VideoContract  # noqa: E402

__all__ = ["DetectorContract", "PolicyContract", "TrackerContract", "VideoContract"]
