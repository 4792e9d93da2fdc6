"""The tracker's jobs: one at a time, they carry the boxes of the latest result to the newest frame."""

from __future__ import annotations

from collections.abc import Sequence

from vitmalis.client.boxes import KnownBoxes, rendered
from vitmalis.client.events import Action, CatchUp, Locate, Render, Track, TrackingDone
from vitmalis.client.history import FrameHistory
from vitmalis.tracker import TrackingImage
from vitmalis.types import Detections


class TrackerJobs:
    """Gives the idle tracker its next job: to catch up with a new result, to track, or to locate boxes for a decision.

    Args:
        history: frames that the tracker can be given.

    Attributes:
        history: as given.
        retention: kappa after the last job, 0..1; 1 before the first.
    """

    def __init__(self, history: FrameHistory) -> None:
        self.history = history
        self._result: KnownBoxes | None = None  # the latest
        self._tracked: KnownBoxes | None = None  # by the last job, perhaps from an earlier result
        self.retention = 1.0
        self._tracked_from: KnownBoxes | None = None  # the result that the tracked boxes stem from
        self._job: KnownBoxes | None = None  # the result that the running job stems from
        self._steps = 0  # of the last job
        self._awaiting_catch_up = False

    @property
    def tracking(self) -> bool:
        """Whether a job runs that ends with `TrackingDone`."""
        return self._job is not None

    @property
    def known(self) -> KnownBoxes:
        """Boxes of the latest result: the tracker's once it has restarted with it, before that the result's own."""
        if self._result is None:
            return KnownBoxes(-1, Detections.empty(), -1)
        return self._tracked if self._tracked and self._tracked_from is self._result else self._result

    def rendered(self, frame_index: int) -> Render:
        """The boxes to show on a frame."""
        return rendered(frame_index, self._result, self._tracked)

    def captured(self, frame_index: int, image: TrackingImage, needed: Sequence[int]) -> None:
        """Add the newest frame to the history, which keeps the frames that a catch-up may start at.

        Args:
            frame_index: number of the frame.
            image: what the tracker needs of it.
            needed: frames whose results are still to come.
        """
        awaited = [self._result.frame_index] if self._result and self._awaiting_catch_up else []
        self.history.append(frame_index, image, [*needed, *awaited])

    def follow(self, result: KnownBoxes, *, tracked: bool) -> None:
        """Take a new result, which the next job restarts the tracker with, if it is to be tracked."""
        self._result, self._awaiting_catch_up = result, tracked

    def locate(self) -> Action:
        """The job that locates the known boxes in the newest frame; until it ends, no other may start."""
        known = self.known
        return Locate(known.detections, self.history.since(known.frame_index))

    def on_done(self, event: TrackingDone) -> None:
        """Take the boxes of the job that has ended."""
        result, self._job = self._job, None
        if result is None:
            raise RuntimeError("the tracker reported a job that it was not given")
        self._tracked = KnownBoxes(event.frame_index, event.detections, result.frame_index)
        self._tracked_from, self.retention = result, event.retention

    def next_job(self, oldest_frame: int | None) -> list[Action]:
        """The next job, if it may start now: to catch up with a new result, else the frames that were not tracked.

        Frames captured during a job are tracked one by one, since optical flow fails on large displacements, as long
        as each job is shorter than the one before. A tracker that has caught up, or is too slow to, takes the newest
        frame alone.

        Args:
            oldest_frame: the first frame that is still needed when a catch-up starts, see `trim`.
        """
        if self.tracking or self._result is None:
            return []
        if self._awaiting_catch_up:
            self._awaiting_catch_up = False
            self._job = self._result
            frames = self.history.since(self._result.frame_index)
            self._steps = len(frames) - 1
            self.trim(oldest_frame)
            return [CatchUp(self._result.detections, frames)]
        waiting = self.history.after(self._tracked.frame_index) if self._tracked else []
        if self._tracked is None or not waiting:
            return []
        frames = waiting if len(waiting) < self._steps else waiting[-1:]
        self._job, self._steps = self._tracked_from, len(frames)
        return [Track(frames)]

    def trim(self, oldest_frame: int | None) -> None:
        """Drop the frames before the one that the next catch-up starts at; none where that is not known yet."""
        if not self._awaiting_catch_up and oldest_frame is not None:
            self.history.forget_before(oldest_frame)
