"""What would come of a decision, found out by making it: the oracle's view of a virtual run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

from vitmalis.client.events import StartOffload
from vitmalis.client.session import ClientSession
from vitmalis.metrics import Counts, MatchRule, match
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState
from vitmalis.policy.base import LookaheadResult
from vitmalis.tracker import OpticalFlowTracker
from vitmalis.tracker.optical_flow import GrayImage
from vitmalis.types import Detections, Frame, RgbImage
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection
from vitmalis.virtual.offload_timeline import simulate_offload
from vitmalis.virtual.server import AnsweredOffload, VirtualServer

HORIZON = 2.0
"""Frames are judged until so many times the slowest candidate's latency: each result is shown for about as long as it
took, and all candidates are judged on the same frames."""


class VirtualLookahead:
    """Makes every candidate's offload on copies of the run's state and judges what would be shown.

    Until the candidate's result arrives, the boxes known now are tracked on; from then on the result's, through the
    frames that are really to come. Time that the tracker takes is not counted, nor what the next offload brings.

    Args:
        session: of the run.
        server: answers.
        connection: the run's; only copies of it are used.
        durations: of every stage.
        references: of every frame of the clip.
        rule: how boxes are matched.
        server_free_s: asks the run when its server is free.
        images: of the clip, from its first frame.
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
        self._grey: dict[int, GrayImage] = {}
        self._reducer = OpticalFlowTracker(session.tracker)
        self._offloads = 0

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        """Rendering F1 over the horizon and time of arrival with each decision, one call an offload."""
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
        until_then = self._judged(state.tracked, shown)
        results = []
        for answer, arrival_s in zip(answers, received_s, strict=True):
            detections = answer.detections.above(self._session.score_threshold)
            from_then_on = self._judged(detections, shown)
            counts = Counts(0, 0, 0)
            for index, before, after in zip(shown, until_then, from_then_on, strict=True):
                counts += after if (index + 1) * state.frame_interval_s >= arrival_s else before
            results.append(LookaheadResult(counts.f1, arrival_s))
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

    def _judged(self, detections: Detections, frames: range) -> list[Counts]:
        """Boxes of the first frame, tracked through all: how well each frame would be rendered."""
        tracker, counts = OpticalFlowTracker(self._session.tracker), []
        for index in frames:
            self._frame(index)
            if index == frames.start:
                tracker.restart(self._grey[index], detections)
            else:
                detections = tracker.step(self._grey[index])
            counts.append(match(detections, self._references[index], self._rule))
        return counts

    def _frame(self, wanted: int) -> Frame:
        """A frame now or to come; those before the one that is decided on are forgotten."""
        while wanted not in self._frames:
            index, image = next(self._images)
            self._frames[index] = Frame(index, index / self._session.video.fps, image)
            self._grey[index] = self._reducer.prepare(image)
        return self._frames[wanted]

    def _forget_before(self, frame_index: int) -> None:
        """Nothing earlier will be asked for."""
        for index in [index for index in self._frames if index < frame_index]:
            del self._frames[index], self._grey[index]
