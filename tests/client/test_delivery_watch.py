"""A source that delivers too few images is warned of once, while the run plays."""

from __future__ import annotations

import pytest

from vitmalis.client.delivery_watch import DeliveryWatch
from vitmalis.video.spec import VideoSpec


def watch(live: bool = False) -> DeliveryWatch:
    """Of a video of 10 FPS: 30 frames are watched, of which 6 may be lost."""
    return DeliveryWatch(VideoSpec("clip", "clip.mp4", 10.0, 0, 300, 320, 160, live=live))


def test_a_few_lost_frames_are_no_reason_to_warn() -> None:
    watched = watch()
    assert not any(watched.warning(index % 5 > 0) for index in range(300))


@pytest.mark.parametrize(("live", "said"), [(False, "not decoded in time: play a smaller video"), (True, "video.fps")])
def test_more_are_warned_of_once(live: bool, said: str) -> None:
    watched = watch(live)
    warnings = [watched.warning(index < 60) for index in range(300)]
    assert [index for index, warning in enumerate(warnings) if warning] == [66]
    assert "7 of the last 30 frames" in warnings[66]
    assert said in warnings[66]


def test_nothing_is_said_before_three_seconds_have_played() -> None:
    watched = watch()
    warnings = [watched.warning(False) for _ in range(30)]
    assert [index for index, warning in enumerate(warnings) if warning] == [29]
