"""The estimates that the policy makes ahead of its decisions: one job at a time, each from the latest decision."""

from __future__ import annotations

from vitmalis.client.events import Action, EstimateAhead, EstimatedAhead
from vitmalis.policy import ClientState


class EstimationJobs:
    """Gives the idle estimator the state of the latest decision; decisions made while it was busy are skipped.

    Without skipping, the jobs of an estimator that is slower than offloads follow each other would pile up, each with
    its frame, and the estimates would get ever older.

    Args:
        wanted: whether the policy estimates ahead; without, there are no jobs.

    Attributes:
        latest: what the last job found; None before the first.
    """

    def __init__(self, wanted: bool) -> None:
        self.latest: object = None
        self._wanted = wanted
        self._busy = False
        self._waiting: ClientState | None = None  # of the latest decision that was made while the estimator was busy

    def next_job(self, decided: ClientState) -> list[Action]:
        """The job from the state of the decision that has just been made, if it may start now."""
        if not self._wanted:
            return []
        if self._busy:
            self._waiting = decided
            return []
        self._busy = True
        return [EstimateAhead(decided)]

    def on_estimated(self, event: EstimatedAhead) -> list[Action]:
        """Take the estimates; return the next job."""
        self.latest, self._busy = event.estimates, False
        waiting, self._waiting = self._waiting, None
        return [] if waiting is None else self.next_job(waiting)
