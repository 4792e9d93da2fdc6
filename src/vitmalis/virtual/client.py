"""The virtual driver of the client's state machine: an event queue in place of threads, sockets and waiting.

Frames are compressed, inferred and tracked as in real time; only time is computed. A stage starts when it is idle and
has its input, takes as long as `Durations` says, and its end is an event. Nothing here depends on how busy the machine
is: a session with the same durations gives the same records in every run.

Not modelled: stages do not slow each other down; the camera buffer never overflows, since no stage before it takes
longer than a frame interval; what still waits for the link when an offload is lost is discarded, while the relay of a
real-time run passes on what it has read by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitmalis.client.events import (
    Action,
    AnalyseMotion,
    CatchUp,
    DeclineOffload,
    EndOffload,
    Event,
    FrameCaptured,
    LinkChanged,
    Locate,
    MotionAnalysed,
    OffloadRefused,
    Reconnect,
    Render,
    RenderDue,
    ResultArrived,
    StartOffload,
    Track,
    TrackerJob,
)
from vitmalis.client.machine import ClientMachine
from vitmalis.client.recorder import Progress, Recorder
from vitmalis.client.session import ClientSession
from vitmalis.client.workers import run_tracking
from vitmalis.errors import UserError
from vitmalis.metrics import DEFAULT_RULE, MatchRule
from vitmalis.offload import OffloadDecision
from vitmalis.policy import Policy
from vitmalis.regions import MotionAnalyzer
from vitmalis.tracker import build_tracker
from vitmalis.types import Detections, Frame
from vitmalis.video.spec import OpenVideo, open_video
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue
from vitmalis.virtual.lookahead import VirtualLookahead
from vitmalis.virtual.network import Connection
from vitmalis.virtual.offload_timeline import OffloadTimeline, simulate_offload
from vitmalis.virtual.server import AnsweredOffload, VirtualServer


class VirtualClient:
    """Plays one session on a virtual clock; the records are in `recorder`.

    Args:
        session: what to play; its server address is not used.
        policy: decides every offload and learns its outcome.
        server: answers offloads.
        connection: to the server; its time starts with the first frame.
        durations: how long each stage takes.
        progress: called after every rendered frame.
        images: opens the clip; another one than `open_video` can share decoded frames between runs.

    Raises:
        UserError: the device is too slow for the clip's frame rate.
    """

    def __init__(
        self,
        session: ClientSession,
        policy: Policy,
        server: VirtualServer,
        connection: Connection,
        durations: Durations,
        progress: Progress = lambda *_: None,
        images: OpenVideo = open_video,
    ) -> None:
        self._session = session
        self._server = server
        self._connection = connection
        self._durations = durations
        self._progress = progress
        self._policy = policy
        self._interval_s = 1.0 / session.video.fps
        if policy.uses_tracker and (prepare_s := durations.prepare_s(0)) > self._interval_s:
            raise UserError(
                f"latency tables: the tracker's copy of a frame takes {1e3 * prepare_s:.0f} ms, frames come every "
                f"{1e3 * self._interval_s:.0f} ms: such a device loses frames, which the virtual clock does not model"
            )
        self._clock = EventQueue()
        self._machine = ClientMachine.for_session(policy, session)
        self.recorder = Recorder(self._interval_s, session.geometry)
        self._tracker = build_tracker(session.tracker)
        grid = session.geometry.grid(session.video.width, session.video.height)
        self._analyzer = MotionAnalyzer(grid, session.motion)
        self._open_video = images
        self._images = images(session.video)
        self._timelines: list[OffloadTimeline] = []  # of the latest offloads, as many as may be in flight

    def attach_lookahead(self, references: Sequence[Detections], rule: MatchRule = DEFAULT_RULE) -> None:
        """Offer the policy a view of the frames to come and their references, which only an oracle takes.

        Args:
            references: of every frame of the clip.
            rule: how boxes are matched.
        """
        lookahead = VirtualLookahead(
            self._session,
            self._server,
            self._connection,
            self._durations,
            references,
            rule,
            self._server_free_s,
            self._open_video(self._session.video),
        )
        self._policy.attach_lookahead(lookahead)

    def play(self) -> None:
        """Play to the end of the clip, then let the offloads in flight end."""
        self._handle(LinkChanged(up=True))
        self._clock.at(0.0, lambda: self._capture(0))
        for frame_index in range(self._session.video.frames):
            self._clock.run_before((frame_index + 1) * self._interval_s)
            self._handle(RenderDue(frame_index))
            self._progress(frame_index + 1, self.recorder.offload_count, self.recorder.lost_offloads)
        self._machine.stop_offloading()
        deadline_s = self._clock.now_s + self._session.drain_s
        while self._machine.outstanding and self._clock.next_s < deadline_s:
            self._clock.step()
        for action in self._machine.finish("the run ended first"):
            self._carry_out(action)

    def _capture(self, frame_index: int) -> None:
        """Capture a frame; the state machine gets it once the tracker's copy is made."""
        frame = Frame(frame_index, frame_index * self._interval_s, next(self._images))
        tracking_image, prepare_s = None, 0.0
        if self._policy.uses_tracker:
            tracking_image = self._tracker.prepare(frame.image)
            prepare_s = self._durations.prepare_s(frame_index)
        self.recorder.captured(frame_index, frame.capture_time_s)
        self._after(prepare_s, FrameCaptured(frame, tracking_image))
        if frame_index + 1 < self._session.video.frames:
            self._clock.at((frame_index + 1) * self._interval_s, lambda: self._capture(frame_index + 1))

    def _handle(self, event: Event) -> None:
        for action in self._machine.handle(event, self._clock.now_s):
            self._carry_out(action)

    def _after(self, duration_s: float, event: Event) -> None:
        self._clock.at(self._clock.now_s + duration_s, lambda: self._handle(event))

    def _carry_out(self, action: Action) -> None:
        match action:
            case StartOffload():
                self._offload(action)
            case DeclineOffload():
                self.recorder.declined(action.frame_index)
            case EndOffload():
                self.recorder.offload_ended(action)
            case Reconnect():
                self._reconnect()
            case Track() | CatchUp() | Locate():
                self._track(action)
            case AnalyseMotion():
                self._analyse(action.frame)
            case Render():
                self.recorder.rendered(action, self._clock.now_s)

    def _track(self, job: TrackerJob) -> None:
        followed = self._tracker.objects if isinstance(job, Track) else len(job.detections)
        done = run_tracking(self._tracker, job)
        if isinstance(job, Locate):
            tracking_s = self._durations.locating_s(done.frame_index, followed)
        else:
            steps = len(job.frames) - isinstance(job, CatchUp)
            tracking_s = self._durations.tracking_s(done.frame_index, followed, steps)
        self.recorder.tracked(done.frame_index, tracking_s)
        self._after(tracking_s, done)

    def _analyse(self, frame: Frame) -> None:
        motion = self._analyzer.analyse(frame.image)
        motion_s = self._durations.motion_s(frame.index)

        def analysed() -> None:
            self.recorder.analysed(motion_s)
            self._handle(MotionAnalysed(frame.index, motion))

        self._clock.at(self._clock.now_s + motion_s, analysed)

    def _offload(self, start: StartOffload) -> None:
        """Simulate an offload, and schedule its answer."""
        start = replace(start, decision=_timed(start.decision, self._durations.decision_s(start.decision)))
        answer = self._server.answer(start.offload_id, start.frame, start.decision)
        timeline = simulate_offload(
            start,
            answer,
            now_s=self._clock.now_s,
            server_free_s=self._server_free_s(),
            connection=self._connection,
            durations=self._durations,
        )
        self._timelines = [*self._timelines, timeline][-self._session.in_flight :]
        self.recorder.offload_started(start, timeline.encode_start_s, timeline.decision_s)
        self.recorder.encoded(
            start.offload_id, timeline.encode_start_s, timeline.outcome.encode_s, answer.payload_bytes
        )
        self._clock.at(timeline.received_s, lambda: self._receive(_event(start.offload_id, answer, timeline)))

    def _receive(self, event: ResultArrived | OffloadRefused) -> None:
        """Handle an answer, unless its offload was lost before."""
        if event.offload_id not in self._machine.outstanding:
            return
        if isinstance(event, ResultArrived):
            self.recorder.answered(event)
        self._handle(event)

    def _server_free_s(self) -> float:
        """When the server has nothing left to do, as far as is known."""
        return max((timeline.server_free_s for timeline in self._timelines), default=0.0)

    def _reconnect(self) -> None:
        """Open another connection; offloads that the server has received in full still keep it busy."""
        now_s = self._clock.now_s
        self._timelines = [timeline for timeline in self._timelines if timeline.arrived_s <= now_s]
        self._clock.at(self._connection.reconnect(now_s), lambda: self._handle(LinkChanged(up=True)))


def _event(offload_id: int, answer: AnsweredOffload, timeline: OffloadTimeline) -> ResultArrived | OffloadRefused:
    if answer.refusal:
        return OffloadRefused(offload_id, answer.refusal)
    return ResultArrived(offload_id, answer.detections, timeline.outcome, answer.asked)


def _timed(decision: OffloadDecision, times_s: tuple[float, float]) -> OffloadDecision:
    """Replace the measured times of an explained decision by those of the virtual clock."""
    if decision.explanation is None:
        return decision
    return replace(decision, estimation_s=times_s[0], optimization_s=times_s[1])
