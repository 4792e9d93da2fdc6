"""The client's logic as one state machine: scheduler (local cache, local tracker) and offload manager (paper, IV-B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitmalis.client.boxes import KnownBoxes
from vitmalis.client.estimation_jobs import EstimationJobs
from vitmalis.client.events import (
    Action,
    BoxesLocated,
    DeclineOffload,
    EndOffload,
    EstimatedAhead,
    Event,
    FrameCaptured,
    LinkChanged,
    MotionAnalysed,
    OffloadRefused,
    Reconnect,
    RenderDue,
    ResultArrived,
    StartOffload,
    TrackingDone,
)
from vitmalis.client.history import FrameHistory
from vitmalis.client.in_flight import OffloadsInFlight, SentOffload
from vitmalis.client.kept_missed import with_missed
from vitmalis.client.motion_jobs import MotionJobs
from vitmalis.client.session import ClientSession, Relevance
from vitmalis.client.tracker_jobs import TrackerJobs
from vitmalis.policy import ClientState, Policy
from vitmalis.policy.base import CachedFrame, check_decision
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections, Frame, OffloadStatus


class ClientMachine:
    """The client's state machine: offloads frames, tracks the last result, and renders.

    The boxes rendered on a frame are the first that exist of: the server's result for this frame, the tracker's latest
    boxes, the server's latest result unchanged, none. A new result restarts the tracker at the offloaded frame and
    advances it through the frames captured since; the newest frame is offloaded next, with `in_flight` 2 before the
    result of the one before, see `OffloadsInFlight`. A policy that uses objects decides after those of the result have
    been located in that frame. A frame of which the server asks regions back is offloaded again before any other.

    Args:
        policy: decides every offload and learns its outcome.
        frame_interval_s: seconds between two captures.
        geometry: regions of the server's model.
        score_threshold: boxes under this score are neither shown nor tracked.
        offload_timeout_s: an offload without an answer for longer is lost.
        history_frames: frames kept for catch-up tracking; see `FrameHistory`.
        in_flight: offloads that may be without an answer at a time.
        keep_missed: whether an object that one result misses is kept, tracked, until the next; see `kept_missed`.
        relevance: what of an object counts in the policy's regions: its mask, where it has one, or its box.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        frame_interval_s: float,
        geometry: ModelGeometry,
        score_threshold: float,
        offload_timeout_s: float,
        history_frames: int,
        in_flight: int = 1,
        keep_missed: bool = False,
        relevance: Relevance = "masks",
    ) -> None:
        self._policy = policy
        self._frame_interval_s = frame_interval_s
        self._geometry = geometry
        self._score_threshold = score_threshold
        self._offload_timeout_s = offload_timeout_s
        self._link_up = False
        self._stopped = False
        self._newest: Frame | None = None
        self._in_flight = OffloadsInFlight(in_flight)
        self._keep_missed = keep_missed
        self._relevance = relevance
        self._offloads = 0
        self._results = 0
        self._last_offloaded_index = self._last_decided_index = -1
        self._cached_frame: CachedFrame | None = None
        self._tracker = TrackerJobs(FrameHistory(history_frames))
        self._locating: Frame | None = None  # offloaded as soon as the known boxes are located in it
        self._offload_waits = False  # for the tracker to end its job
        self._motion = MotionJobs(policy.uses_motion)
        self._estimation = EstimationJobs(policy.estimates_ahead)

    @classmethod
    def for_session(cls, policy: Policy, session: ClientSession) -> ClientMachine:
        """Build the state machine of a session."""
        return cls(
            policy,
            frame_interval_s=1.0 / session.video.fps,
            geometry=session.geometry,
            score_threshold=session.score_threshold,
            offload_timeout_s=session.offload_timeout_s,
            history_frames=session.history_frames,
            in_flight=session.in_flight,
            keep_missed=session.keep_missed,
            relevance=session.relevance,
        )

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Handle one event at `now_s` seconds of the run; return the actions to carry out, in order."""
        match event:
            case FrameCaptured():
                return self._on_frame(event, now_s)
            case RenderDue():
                return [*self._give_up_overdue(now_s), self._tracker.rendered(event.frame_index)]
            case TrackingDone():
                return self._on_tracking(event, now_s)
            case BoxesLocated():
                return self._on_located(event, now_s)
            case MotionAnalysed():
                return self._motion.on_analysed(event, self._newest)
            case EstimatedAhead():
                return self._estimation.on_estimated(event)
            case ResultArrived():
                return self._on_result(event, now_s)
            case OffloadRefused():
                return self._end_offload(event.offload_id, OffloadStatus.FAILED, event.reason)
            case LinkChanged():
                self._link_up, self._cached_frame = event.up, None
                return self._offload_newest(now_s) if event.up else self._lose_offloads(event.reason)

    @property
    def outstanding(self) -> Sequence[int]:
        """Numbers of the offloads in flight."""
        return self._in_flight.ids

    def stop_offloading(self) -> None:
        """Start no further offload; those in flight may still end."""
        self._stopped = True

    def finish(self, reason: str) -> list[Action]:
        """End the run: the offloads in flight, if any, are lost."""
        return self._lose_offloads(reason)

    # --- offload manager --------------------------------------------------------------------------------------------

    def _on_frame(self, event: FrameCaptured, now_s: float) -> list[Action]:
        self._newest = event.frame
        if event.tracking_image is not None:
            self._tracker.captured(event.frame.index, event.tracking_image, self._needed_frames)
        return [*self._offload_newest(now_s), *self._next_tracker_job(), *self._motion.next_job(event.frame)]

    def _offload_newest(self, now_s: float) -> list[Action]:
        """Offload the newest frame if it may be; a policy that uses objects decides once they are located in it."""
        frame, self._offload_waits = self._newest, False
        if frame is None or self._locating or not self._may_offload(frame, now_s):
            return []
        known = self._tracker.known
        needed = (
            (self._policy.uses_objects or self._keep_missed)
            and len(known.detections) > 0
            and known.frame_index != frame.index
        )
        if not needed:
            return self._start_offload(frame, known.detections, now_s)
        self._offload_waits = self._tracker.tracking
        if self._offload_waits:
            return []
        if known.frame_index not in self._tracker.history:  # the policy uses no tracker
            return self._start_offload(frame, known.detections, now_s)
        self._locating = frame
        return [self._tracker.locate()]

    def _may_offload(self, frame: Frame, now_s: float) -> bool:
        """Whether the frame was not decided on before, the offloads in flight leave room and the link is up."""
        free = self._in_flight.may_start(now_s) and not self._stopped and self._link_up
        return free and frame.index > self._last_decided_index

    def _on_located(self, event: BoxesLocated, now_s: float) -> list[Action]:
        frame, self._locating = self._locating, None
        if frame is None or frame.index != event.frame_index:
            raise RuntimeError("the tracker located boxes that it was not asked for")
        start = self._start_offload(frame, event.detections, now_s) if self._may_offload(frame, now_s) else []
        return [*start, *self._next_tracker_job()]

    def _start_offload(self, frame: Frame, objects: Detections, now_s: float) -> list[Action]:
        """Let the policy decide whether and how this frame is sent, from the objects in it."""
        height, width = frame.image.shape[:2]
        result_frame_index = self._tracker.known.result_frame_index
        state = ClientState(
            frame_index=frame.index,
            grid=self._geometry.grid(width, height),
            frame_interval_s=self._frame_interval_s,
            time_s=now_s,
            frames_since_offload=frame.index - self._last_offloaded_index if self._offloads else 0,
            tracked=objects if self._relevance == "masks" else replace(objects, masks=None),
            retention=self._tracker.retention,
            motion=self._motion.latest,
            results=self._results,
            result_age_frames=frame.index - result_frame_index if result_frame_index >= 0 else 0,
            offloads_in_flight=self._in_flight.limit,
            image=frame.image,
            cached_frame=self._cached_frame,
            ahead=self._estimation.latest,
        )
        self._last_decided_index = frame.index
        decision = self._policy.decide(state)
        if decision is None:
            return [DeclineOffload(frame.index)]
        check_decision(decision, state.grid)
        self._last_offloaded_index = frame.index
        start = StartOffload(self._offloads, frame, decision)
        sent = self._send(SentOffload(start, now_s, objects, result_frame_index))
        return [sent, *self._estimation.next_job(state)]

    def _send(self, offload: SentOffload) -> StartOffload:
        self._in_flight.start(offload)
        self._offloads += 1
        self._tracker.trim(self._oldest_needed)
        return offload.start

    def _on_result(self, event: ResultArrived, now_s: float) -> list[Action]:
        offload = self._in_flight.end(event.offload_id)
        if offload is None:
            return []  # too late: the offload was lost before
        self._results += 1
        self._in_flight.learn(event.outcome)
        if event.outcome.tokens_cached:
            point = event.outcome.decision.configuration.restoration_point
            self._cached_frame = CachedFrame(offload.offload_id, offload.frame_index, point)
        found = offload.with_first_round(event.detections.above(self._score_threshold))
        self._policy.observe(
            offload.with_agreement(event.outcome, found, self._frame_interval_s, self._score_threshold)
        )
        shown = with_missed(found, offload.known, self._score_threshold) if self._keep_missed else found
        result = KnownBoxes(offload.frame_index, shown, offload.frame_index)
        self._tracker.follow(result, tracked=self._policy.uses_tracker)
        second = offload.second_round(self._offloads, event.asked, found, now_s)
        ended = self._end_answered(event.offload_id, second)
        return [*ended, *self._offload_newest(now_s), *self._next_tracker_job()]

    def _end_answered(self, offload_id: int, second: SentOffload | None) -> list[Action]:
        """End an offload with a result, and send its frame again unless a later result would come first."""
        if second and (self._stopped or len(self._in_flight)):
            obstacle = "the run ends" if self._stopped else "a later frame is in flight"
            return [EndOffload(offload_id, OffloadStatus.OK, f"no second round: {obstacle}")]
        return [EndOffload(offload_id, OffloadStatus.OK), *([self._send(second)] if second else [])]

    def _end_offload(self, offload_id: int, status: OffloadStatus, reason: str) -> list[Action]:
        """End an offload; only the next captured frame starts another, so that refusals cause no busy loop."""
        self._cached_frame = None  # perhaps the server has lost it
        return [] if self._in_flight.end(offload_id) is None else [EndOffload(offload_id, status, reason)]

    def _lose_offloads(self, reason: str) -> list[Action]:
        """End all offloads in flight as lost."""
        return [end for number in self._in_flight.ids for end in self._end_offload(number, OffloadStatus.LOST, reason)]

    def _give_up_overdue(self, now_s: float) -> list[Action]:
        """End all offloads as lost if one has no answer for too long; none starts until there is a new connection."""
        if not self._in_flight.overdue(now_s, self._offload_timeout_s):
            return []
        self._link_up = False
        return [*self._lose_offloads(f"no answer within {self._offload_timeout_s:g} s"), Reconnect()]

    # --- scheduler: local tracker and local cache -------------------------------------------------------------------

    def _on_tracking(self, event: TrackingDone, now_s: float) -> list[Action]:
        self._tracker.on_done(event)
        offload = self._offload_newest(now_s) if self._offload_waits else []
        return [*offload, *self._next_tracker_job()]

    def _next_tracker_job(self) -> list[Action]:
        """Give the tracker its next job, unless it locates boxes."""
        return [] if self._locating else self._tracker.next_job(self._oldest_needed)

    @property
    def _oldest_needed(self) -> int | None:
        """The first frame that a later catch-up may start at; None before the first frame."""
        if self._newest is None:
            return None
        return min(self._needed_frames, default=self._newest.index)

    @property
    def _needed_frames(self) -> list[int]:
        """The frames that are in flight, or about to be."""
        return [*self._in_flight.frames, *([self._locating.index] if self._locating else [])]
