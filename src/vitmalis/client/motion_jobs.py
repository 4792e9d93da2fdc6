"""The motion analyzer's jobs: one at a time, each of the newest frame."""

from __future__ import annotations

from vitmalis.client.events import Action, AnalyseMotion, MotionAnalysed
from vitmalis.regions import Motion
from vitmalis.types import Frame


class MotionJobs:
    """Gives the idle analyzer the newest frame; frames captured while it was busy are skipped.

    Args:
        wanted: whether the policy uses motion; without, there are no jobs.

    Attributes:
        latest: result of the last job; None before the first.
    """

    def __init__(self, wanted: bool) -> None:
        self.latest: Motion | None = None
        self._wanted = wanted
        self._busy = False
        self._newest_index = -1  # of the frames that were given to the analyzer

    def next_job(self, newest: Frame | None) -> list[Action]:
        """The analysis of the newest frame, if it may start now and has not been made."""
        if not self._wanted or self._busy or newest is None or newest.index <= self._newest_index:
            return []
        self._busy, self._newest_index = True, newest.index
        return [AnalyseMotion(newest)]

    def on_analysed(self, event: MotionAnalysed, newest: Frame | None) -> list[Action]:
        """Take a result; return the next job."""
        self.latest, self._busy = event.motion, False
        return self.next_job(newest)
