"""The virtual driver of the client's state machine: an event queue in place of threads, sockets and waiting.

Frames are compressed, inferred and tracked as in real time; only time is computed. A stage starts when it is idle and
has its input, takes as long as `Durations` says, and its end is an event. Nothing here depends on how busy the machine
is: a session with the same durations gives the same records in every run.

Several clients on one clock share the worker of one server, see `play`.

Not modelled: stages do not slow each other down; the camera buffer never overflows, since no stage before it takes
longer than a frame interval; what still waits for the link when an offload is lost is discarded, while the relay of a
real-time run passes on what it has read by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vitmalis.client.events import (
    Action,
    AnalyseMotion,
    CatchUp,
    DeclineOffload,
    EndOffload,
    EstimateAhead,
    EstimatedAhead,
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
from vitmalis.policy import ClientState, Policy
from vitmalis.regions import MotionAnalyzer
from vitmalis.tracker import build_tracker
from vitmalis.types import Detections, Frame
from vitmalis.video.spec import OpenVideo, open_video
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.events import EventQueue, Handler
from vitmalis.virtual.lookahead import VirtualLookahead
from vitmalis.virtual.network import Connection
from vitmalis.virtual.offloading import VirtualOffloading
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.worker import VirtualWorker


class VirtualClient:
    """Plays one session on a virtual clock; the records are in `recorder`.

    Args:
        session: what to play; its server address is not used.
        policy: decides every offload and learns its outcome.
        server: what it makes of each offload.
        connection: to the server; its time starts with the first frame.
        durations: how long each stage takes.
        progress: called after every rendered frame.
        images: opens the clip; another one than `open_video` can share decoded frames between runs.
        worker: of a server that other clients share; None for a server of one's own.

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
        worker: VirtualWorker | None = None,
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
        worker = worker or VirtualWorker(EventQueue(), server.geometry)
        self.clock = worker.clock
        self._machine = ClientMachine.for_session(policy, session)
        self.recorder = Recorder(self._interval_s, session.geometry)
        self._tracker = build_tracker(session.tracker)
        grid = session.geometry.grid(session.video.width, session.video.height)
        self._analyzer = MotionAnalyzer(grid, session.motion)
        self._open_video = images
        self._images = images(session.video)
        self._offloading = VirtualOffloading(server, worker, connection, durations, self._receive)
        self._decided_s = 0.0  # end of the last decision
        self._end_s = math.inf

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
            self._offloading.server_free_s,
            lambda: self.recorder.offload_count,
            self._open_video(self._session.video),
        )
        self._policy.attach_lookahead(lookahead)

    def play(self) -> None:
        """Play alone, to the end of the clip, then let the offloads in flight end."""
        play([self])

    def start(self) -> None:
        """Connect and schedule the first frame."""
        self._handle(LinkChanged(up=True))
        self._at(0.0, lambda: self._capture(0))
        self._at(self._interval_s, lambda: self._render(0), first=True)

    @property
    def ended(self) -> bool:
        """Whether the clip has ended and nothing that is in flight is waited for any more."""
        played = self.recorder.frame_count == self._session.video.frames
        return played and (not self._machine.outstanding or self.clock.now_s >= self._end_s)

    def finish(self) -> None:
        """End the offloads that are still in flight."""
        for action in self._machine.finish("the run ended first"):
            self._carry_out(action)

    def _render(self, frame_index: int) -> None:
        """Render a frame at the end of its interval; the last one is followed by the time to drain."""
        self._handle(RenderDue(frame_index))
        self._progress(frame_index + 1, self.recorder.offload_count, self.recorder.lost_offloads)
        if frame_index + 1 < self._session.video.frames:
            self._at((frame_index + 2) * self._interval_s, lambda: self._render(frame_index + 1), first=True)
            return
        self._machine.stop_offloading()
        self._end_s = self.clock.now_s + self._session.drain_s
        self._at(self._end_s, lambda: None, first=True)

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
            self._at((frame_index + 1) * self._interval_s, lambda: self._capture(frame_index + 1))

    def _handle(self, event: Event) -> None:
        for action in self._machine.handle(event, self.clock.now_s):
            self._carry_out(action)

    def _at(self, time_s: float, handler: Handler, *, first: bool = False) -> None:
        """Schedule an event of this client, to which nothing happens any more once it has ended."""
        self.clock.at(time_s, lambda: None if self.ended else handler(), first=first)

    def _after(self, duration_s: float, event: Event) -> None:
        self._at(self.clock.now_s + duration_s, lambda: self._handle(event))

    def _carry_out(self, action: Action) -> None:
        match action:
            case StartOffload():
                self._offload(action)
            case DeclineOffload():
                self.recorder.declined(action.frame_index)
            case EndOffload():
                self.recorder.offload_ended(action)
            case Reconnect():
                self._at(self._offloading.reconnect(), lambda: self._handle(LinkChanged(up=True)))
            case Track() | CatchUp() | Locate():
                self._track(action)
            case AnalyseMotion():
                self._analyse(action.frame)
            case EstimateAhead():
                self._estimate_ahead(action.state)
            case Render():
                self.recorder.rendered(action, self.clock.now_s)

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
            self._handle(MotionAnalysed(motion))

        self._at(self.clock.now_s + motion_s, analysed)

    def _estimate_ahead(self, state: ClientState) -> None:
        """Estimate ahead of the next decision, from the end of the last one on, or of the estimation before."""
        estimates = self._policy.estimate_ahead(state)
        estimation_s = self._durations.estimation_s

        def estimated() -> None:
            self.recorder.estimated_ahead(estimation_s)
            self._handle(EstimatedAhead(estimates))

        self._at(max(self._decided_s, self.clock.now_s) + estimation_s, estimated)

    def _offload(self, start: StartOffload) -> None:
        """Send an offload and note what it cost so far."""
        start = replace(start, decision=_timed(start.decision, self._durations.decision_s(start.decision)))
        sent = self._offloading.start(start)
        self._decided_s = sent.encode_start_s
        self.recorder.offload_started(start, sent.encode_start_s, sent.decision_s)
        self.recorder.encoded(start.offload_id, sent.encode_start_s, sent.encode_s, sent.answer.payload_bytes)

    def _receive(self, event: ResultArrived | OffloadRefused) -> None:
        """Handle an answer, unless its offload was lost before."""
        if self.ended or event.offload_id not in self._machine.outstanding:
            return
        if isinstance(event, ResultArrived):
            self.recorder.answered(event)
        self._handle(event)


def play(clients: Sequence[VirtualClient]) -> None:
    """Play the sessions of clients with one clock to their ends."""
    for client in clients:
        client.start()
    while not all(client.ended for client in clients):
        clients[0].clock.step()
    for client in clients:
        client.finish()


def _timed(decision: OffloadDecision, times_s: tuple[float, float]) -> OffloadDecision:
    """Replace the measured times of an explained decision by those of the virtual clock."""
    if decision.explanation is None:
        return decision
    return replace(decision, estimation_s=times_s[0], optimization_s=times_s[1])
