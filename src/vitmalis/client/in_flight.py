"""The offloads in flight: which have been sent and not answered, and when the next one may follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vitmalis.client.events import StartOffload
from vitmalis.matching import MatchRule, match, match_boxes
from vitmalis.offload import OffloadOutcome
from vitmalis.types import BoolMask, Detections


@dataclass(frozen=True, slots=True, eq=False)
class SentOffload:
    """An offload that has been sent.

    Attributes:
        start: its number, frame and decision.
        started_s: when it was decided, seconds of the run.
        known: boxes that were known of its frame.
        result_frame_index: offloaded frame whose result these stem from, -1 before the first.
        first_round: what the first round found in the frame, in a second one.
    """

    start: StartOffload
    started_s: float
    known: Detections
    result_frame_index: int
    first_round: Detections | None = None

    @property
    def offload_id(self) -> int:
        """Number of the offload."""
        return self.start.offload_id

    @property
    def frame_index(self) -> int:
        """Number of its frame."""
        return self.start.frame.index

    def second_round(
        self, offload_id: int, asked: BoolMask | None, found: Detections, now_s: float
    ) -> SentOffload | None:
        """The offload that sends the same frame again, with the regions that the server asks back; None without any."""
        feedback = self.start.decision.feedback
        if feedback is None or asked is None or not asked.any():
            return None
        start = StartOffload(offload_id, self.start.frame, feedback.second_round(asked), self.offload_id)
        return replace(self, start=start, started_s=now_s, first_round=found)

    def with_first_round(self, found: Detections) -> Detections:
        """Add to the boxes that were found those of the first round, if there was one, that are none of them."""
        first = self.first_round
        if first is None:
            return found
        return found.with_more(first.select(match_boxes(found, first, MatchRule(score_threshold=0.0)).missed))

    def with_agreement(
        self, outcome: OffloadOutcome, found: Detections, frame_interval_s: float, score_threshold: float
    ) -> OffloadOutcome:
        """Add to an outcome how well the boxes that were known of the frame agree with those that were found in it."""
        if self.result_frame_index < 0 or not (len(self.known) or len(found)):
            return outcome
        return replace(
            outcome,
            agreement=match(self.known, found, MatchRule(score_threshold=score_threshold)).f1_or_one,
            agreement_age_s=(self.frame_index - self.result_frame_index) * frame_interval_s,
            agreement_frame_index=self.result_frame_index,
        )


class OffloadsInFlight:
    """At most `limit` offloads without an answer, in the order in which they were sent.

    The first may start at any time. Another one follows when its frame would reach the server as the one before is
    done: after the time that the slower of both takes, sending a frame or serving it, as the latest result says. The
    wait for frames of other devices is part of serving: what is sent faster only waits longer. Until there is a
    result, no second one starts.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._offloads: list[SentOffload] = []
        self._pace_s = math.inf

    def __len__(self) -> int:
        return len(self._offloads)

    def may_start(self, now_s: float) -> bool:
        """Whether another offload may start at `now_s`."""
        if not self._offloads:
            return True
        return len(self) < self.limit and now_s - self._offloads[-1].started_s >= self._pace_s

    def start(self, offload: SentOffload) -> None:
        """Add the newest offload."""
        self._offloads.append(offload)

    def end(self, offload_id: int) -> SentOffload | None:
        """Remove an offload; None if it is not in flight (any more)."""
        found = next((offload for offload in self._offloads if offload.offload_id == offload_id), None)
        if found is not None:
            self._offloads.remove(found)
        return found

    def learn(self, outcome: OffloadOutcome) -> None:
        """Take the pace from a finished offload."""
        served_s = outcome.queue_s + outcome.decode_s + outcome.inference_s
        self._pace_s = max(outcome.encode_s + outcome.transfer_s, served_s)

    def overdue(self, now_s: float, timeout_s: float) -> bool:
        """Whether the oldest offload has been without an answer for longer than `timeout_s`."""
        return bool(self._offloads) and now_s - self._offloads[0].started_s > timeout_s

    @property
    def ids(self) -> list[int]:
        """Numbers of the offloads, the oldest first."""
        return [offload.offload_id for offload in self._offloads]

    @property
    def frames(self) -> list[int]:
        """Frames of the offloads; that of a second round may be earlier than one that was sent before."""
        return [offload.frame_index for offload in self._offloads]
