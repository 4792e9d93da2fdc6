"""The lookahead: simulates candidate decisions on a virtual run, with the frames and the trace that are to come."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.client.events import StartOffload
from vitmalis.client.header import offload_header
from vitmalis.client.session import ClientSession
from vitmalis.metrics import Counts, MatchRule, match
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState
from vitmalis.policy.base import LookaheadResult
from vitmalis.tracker import TrackingImage, build_tracker
from vitmalis.types import Detections, Frame, RgbImage
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import Connection, upload
from vitmalis.virtual.offload_timeline import simulate_offload
from vitmalis.virtual.server import AnsweredOffload, VirtualServer

FloatArray = NDArray[np.float64]

HORIZON = 2.0
"""Length of the scored period, as a multiple of the slowest candidate's latency: each result is shown for about as long
as it took, and all candidates are scored on the same frames."""


class VirtualLookahead:
    """Simulates each candidate's offload on copies of the run's state, and scores the boxes that would be shown.

    Until a candidate's result arrives, the boxes known now are tracked on; from then on the result's boxes, through
    the frames that are to come. The tracker takes no time, and the effect of later offloads is not counted.

    Args:
        session: the session of the run.
        server: of the run; copies of it answer the candidates.
        connection: the run's connection; only copies of it are used.
        durations: how long each stage takes.
        references: reference detections of every frame of the clip.
        rule: how boxes are matched.
        server_free_s: returns when the run's server has nothing left to do.
        next_offload_id: returns the number that the run's next offload will have.
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
        next_offload_id: Callable[[], int],
        images: Iterator[RgbImage],
    ) -> None:
        self._session = session
        self._server = server
        self._connection = connection
        self._durations = durations
        self._references = references
        self._rule = rule
        self._server_free_s = server_free_s
        self._next_offload_id = next_offload_id
        self._images = enumerate(images)
        self._frames: dict[int, Frame] = {}
        self._tracking_images: dict[int, TrackingImage] = {}
        self._reducer = build_tracker(session.tracker)

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        """Compute rendering F1 over the horizon and the result's arrival for each decision."""
        starts = self._starts(state, decisions)
        answers = [self._answer(start) for start in starts]
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

    def payload_bytes(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        """Size of the JPEG of each decision (n,); each distinct one is encoded once."""
        frame, keys = self._offloaded(state), [_sent(decision) for decision in decisions]
        distinct = dict(zip(keys, decisions, strict=True))
        known = {key: self._server.payload_bytes(frame, decision) for key, decision in distinct.items()}
        return np.array([known[key] for key in keys], np.float64)

    def inference_f1(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        """F1 of the result of each decision, compared with the frame's reference (n,)."""
        reference = self._references[state.frame_index]
        answers = [self._answer(start) for start in self._starts(state, decisions)]
        found = [answer.detections.above(self._session.score_threshold) for answer in answers]
        return np.array([match(detections, reference, self._rule).f1_or_one for detections in found], np.float64)

    def transfer_s(
        self, state: ClientState, decisions: Sequence[OffloadDecision], payload_bytes: FloatArray
    ) -> FloatArray:
        """Time that payloads of these sizes (n,) take to pass the uplink once the decision is made, seconds (n,)."""
        transfers_s = []
        for start, size in zip(self._starts(state, decisions), payload_bytes.tolist(), strict=True):
            header = offload_header(start.offload_id, start.frame, start.decision, self._server.geometry)
            decided_s = state.time_s + sum(self._durations.search_s(start.decision))
            sent_s = decided_s + self._durations.encode_s(start.offload_id, start.decision)
            transfers_s.append(upload(copy.deepcopy(self._connection), sent_s, header, max(round(size), 1)).transfer_s)
        return np.array(transfers_s, np.float64)

    def f1_by_age(self, state: ClientState, oldest_s: float) -> FloatArray:
        """F1 of the frame's reference boxes, tracked, at the age of 0, 1, ... frames up to `oldest_s` (k,)."""
        self._offloaded(state)
        last = state.frame_index + math.ceil(oldest_s / state.frame_interval_s)
        frames = range(state.frame_index, min(last, self._session.video.frames - 1) + 1)
        counts = self._tracked_counts(self._references[state.frame_index], frames)
        return np.array([count.f1_or_one for count in counts], np.float64)

    def _offloaded(self, state: ClientState) -> Frame:
        """The frame about to be offloaded, the first that is still needed."""
        self._forget_before(state.frame_index)
        return self._frame(state.frame_index)

    def _starts(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[StartOffload]:
        """The run's next offload by each decision."""
        frame, number = self._offloaded(state), self._next_offload_id()
        return [StartOffload(number, frame, decision) for decision in decisions]

    def _answer(self, start: StartOffload) -> AnsweredOffload:
        return self._server.copy().answer(start.offload_id, start.frame, start.decision)

    def _received_s(self, start: StartOffload, answer: AnsweredOffload, now_s: float) -> float:
        connection = copy.deepcopy(self._connection)
        offload = simulate_offload(start, answer, now_s=now_s, connection=connection, durations=self._durations)
        return offload.received_s(self._server_free_s(), connection)

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


def _sent(decision: OffloadDecision) -> tuple[object, ...]:
    """All of a decision that its JPEG depends on."""
    masks = (decision.downsample_mask, decision.blank_mask, decision.coarse_mask, decision.cached_mask)
    bits = (None if mask is None else mask.tobytes() for mask in masks)
    return decision.configuration.quality, decision.coarse_quality, decision.frame_downsampling, *bits
