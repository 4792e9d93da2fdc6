"""Notices, while a run plays, a source that delivers too few images: frames that no client can show are lost."""

from __future__ import annotations

import collections

from vitmalis.video.spec import VideoSpec

WINDOW_S = 3.0
"""Length of the recent past that is watched."""
MOST_LOST = 0.2
"""Share of its frames that may be lost without a warning."""


class DeliveryWatch:
    """Watches which frames of a video are delivered, and warns once where too many recent ones were not."""

    def __init__(self, video: VideoSpec) -> None:
        self._video = video
        self._recent: collections.deque[bool] = collections.deque(maxlen=max(1, round(WINDOW_S * video.fps)))
        self._warned = False

    def warning(self, delivered: bool) -> str:
        """Take in whether the next frame was delivered; returns a warning where one is due, else an empty text."""
        self._recent.append(delivered)
        lost, watched = self._recent.count(False), len(self._recent)
        if self._warned or watched < (self._recent.maxlen or 0) or lost <= MOST_LOST * watched:
            return ""
        self._warned = True
        if self._video.live:
            return (
                f"the live source gave no image for {lost} of the last {watched} frames: set video.fps to the rate "
                f"that it keeps (now {self._video.fps:g}), or have it give smaller images"
            )
        return (
            f"{lost} of the last {watched} frames were lost, as their images were not decoded in time: play a smaller "
            "video or one with fewer FPS (ffmpeg -i VIDEO -vf scale=1280:-2 -r 15 SMALLER), or end other programs"
        )
