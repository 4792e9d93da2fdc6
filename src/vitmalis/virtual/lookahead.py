"""The oracle's lookahead: simulates candidate decisions on a virtual run, with the frames that are to come."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

from vitmalis.client.events import StartOffload
from vitmalis.client.session import ClientSession
from vitmalis.metrics import Counts, MatchRule, match
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState
from vitmalis.policy.base import LookaheadResult
from vitmalis.tracker import TrackingImage, build_tracker
from vitmalis.types import Detections, Frame, RgbImage
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection
from vitmalis.virtual.offload_timeline import simulate_offload
from vitmalis.virtual.server import AnsweredOffload, VirtualServer

HORIZON = 2.0
"""Length of the scored period, as a multiple of the slowest candidate's latency: each result is shown for about as long
as it took, and all candidates are scored on the same frames."""


class VirtualLookahead:
    """Simulates each candidate's offload on copies of the run's state, and scores the boxes that would be shown.

    Until a candidate's result arrives, the boxes known now are tracked on; from then on the result's boxes, through
    the frames that are to come. The tracker takes no time, and the effect of later offloads is not counted.

    Args:
        session: the session of the run.
        server: answers the candidates.
        connection: the run's connection; only copies of it are used.
        durations: how long each stage takes.
        references: reference detections of every frame of the clip.
        rule: how boxes are matched.
        server_free_s: returns when the run's server has nothing left to do.
        images: the clip's images, from the first frame on.
    """

    def __init__(
        self,
        session: ClientSession,
        server: VirtualServer,
        connection: Connection,
        durations: Durations,
        references: Sequence[Detections],
        rule: MatchRule,
        server_free_s: Callable[[], float],
        images: Iterator[RgbImage],
    ) -> None:
        self._session = session
        self._server = server
        self._connection = connection
        self._durations = durations
        self._references = references
        self._rule = rule
        self._server_free_s = server_free_s
        self._images = enumerate(images)
        self._frames: dict[int, Frame] = {}
        self._tracking_images: dict[int, TrackingImage] = {}
        self._reducer = build_tracker(session.tracker)
        self._offloads = 0

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        """Compute rendering F1 over the horizon and the result's arrival for each decision; call once per offload."""
        frame = self._frame(state.frame_index)
        self._forget_before(state.frame_index)
        starts = [StartOffload(self._offloads, frame, decision) for decision in decisions]
        self._offloads += 1
        answers = [self._server.answer(start.offload_id, frame, start.decision) for start in starts]
        received_s = [
            self._received_s(start, answer, state.time_s) for start, answer in zip(starts, answers, strict=True)
        ]
        end_s = state.time_s + HORIZON * (max(received_s) - state.time_s)
        last = min(int(end_s / state.frame_interval_s), self._session.video.frames - 1)
        shown = range(state.frame_index, last + 1)
        counts_before = self._tracked_counts(state.tracked, shown)
        results = []
        for answer, arrival_s in zip(answers, received_s, strict=True):
            detections = answer.detections.above(self._session.score_threshold)
            counts_after = self._tracked_counts(detections, shown)
            counts = Counts(0, 0, 0)
            for index, before, after in zip(shown, counts_before, counts_after, strict=True):
                counts += after if (index + 1) * state.frame_interval_s >= arrival_s else before
            results.append(LookaheadResult(counts.f1_or_one, arrival_s))
        return results

    def _received_s(self, start: StartOffload, answer: AnsweredOffload, now_s: float) -> float:
        return simulate_offload(
            start,
            answer,
            now_s=now_s,
            server_free_s=self._server_free_s(),
            connection=copy.deepcopy(self._connection),
            durations=self._durations,
        ).received_s

    def _tracked_counts(self, detections: Detections, frames: range) -> list[Counts]:
        """Track boxes of the first frame through all, and match them with each frame's reference."""
        tracker, counts = build_tracker(self._session.tracker), []
        for index in frames:
            self._frame(index)
            if index == frames.start:
                tracker.restart(self._tracking_images[index], detections)
            else:
                detections = tracker.advance([self._tracking_images[index]])
            counts.append(match(detections, self._references[index], self._rule))
        return counts

    def _frame(self, wanted: int) -> Frame:
        """Return a frame that has not been forgotten, decoding up to it."""
        while wanted not in self._frames:
            index, image = next(self._images)
            self._frames[index] = Frame(index, index / self._session.video.fps, image)
            self._tracking_images[index] = self._reducer.prepare(image)
        return self._frames[wanted]

    def _forget_before(self, frame_index: int) -> None:
        """Free the frames before this one."""
        for index in [index for index in self._frames if index < frame_index]:
            del self._frames[index], self._tracking_images[index]
