"""The realtime driver of the client's state machine: threads, sockets and the wall clock."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vitmalis.client.clock import Clock, Inbox, WallClock
from vitmalis.client.delivery_watch import DeliveryWatch
from vitmalis.client.events import (
    Action,
    AnalyseMotion,
    CatchUp,
    DeclineOffload,
    EndOffload,
    EstimateAhead,
    Event,
    FrameCaptured,
    LinkChanged,
    Locate,
    Reconnect,
    Render,
    RenderDue,
    ResultArrived,
    StartOffload,
    Track,
)
from vitmalis.client.machine import ClientMachine
from vitmalis.client.offloading import OffloadWorker
from vitmalis.client.recorder import Progress, Recorder
from vitmalis.client.session import ClientSession
from vitmalis.client.workers import (
    Encoded,
    EstimationTime,
    EstimatorWorker,
    MotionTime,
    MotionWorker,
    Post,
    Report,
    TrackerWorker,
    TrackingTime,
    Worker,
    WorkerFailed,
)
from vitmalis.errors import UserError
from vitmalis.network.wire.security import read_client_keys
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.tracker import Tracker, build_tracker
from vitmalis.types import Frame
from vitmalis.video.camera import Camera
from vitmalis.video.spec import open_in_time


class FramePump(Worker):
    """Thread that takes frames out of the camera buffer, one at a time, and prepares them for the tracker.

    It delivers a frame only after the one before has been handled, so that a client that falls behind loses frames in
    the camera buffer, where losses are counted, instead of filling a queue.
    """

    def __init__(self, camera: Camera, tracker: Tracker | None, post: Post) -> None:
        super().__init__("frame-pump", post)
        self._camera = camera
        self._tracker = tracker
        self._handled = threading.Semaphore()

    def handled(self) -> None:
        """Report that the last frame was handled."""
        self._handled.release()

    def work(self) -> None:
        """Deliver frames until the camera ends."""
        while not self._stopping.is_set():
            if not self._handled.acquire(timeout=0.1):
                continue
            frame = None
            while frame is None and not self._stopping.is_set():
                if self._camera.finished:
                    return
                frame = self._camera.get(timeout_s=0.1)
            if frame is not None:
                image = self._tracker.prepare(frame.image) if self._tracker else None
                self._post(FrameCaptured(frame, image))


class TimedPolicy(Policy):
    """A policy whose last decision is timed.

    Attributes:
        decision_s: how long it took, seconds.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.uses_tracker, self.uses_objects = policy.uses_tracker, policy.uses_objects
        self.uses_motion, self.estimates_ahead = policy.uses_motion, policy.estimates_ahead
        self.stand_in = policy.stand_in
        self.decision_s = 0.0

    def decide(self, state: ClientState) -> OffloadDecision | None:
        """Ask the policy, and take the time."""
        start_s = time.perf_counter()
        decision = self._policy.decide(state)
        self.decision_s = time.perf_counter() - start_s
        return decision

    def estimate_ahead(self, state: ClientState) -> object:
        """Let the policy estimate ahead."""
        return self._policy.estimate_ahead(state)

    def observe(self, outcome: OffloadOutcome) -> None:
        """Report the outcome to the policy."""
        self._policy.observe(outcome)


class RealtimeClient:
    """Plays one session: camera, tracker, offloading and rendering against the wall clock.

    Args:
        session: what to play, and the server's address.
        progress: called after every rendered frame.
        on_connected: called once the server has answered, before the camera starts.
        clock: for reading the time and for waiting.
        observe: called with every event and action of the state machine, in this thread; it must not wait.
        record: called with every frame that the camera delivers, in its thread; it must not wait.
        warn: called with a warning, at most once, if the source delivers too few frames, see `DeliveryWatch`.

    Raises:
        UserError: the policy or address is unusable, or the server did not answer in time.
    """

    def __init__(
        self,
        session: ClientSession,
        progress: Progress = lambda *_: None,
        on_connected: Callable[[], None] = lambda: None,
        clock: Clock = WallClock(),  # noqa: B008
        observe: Callable[[Event | Action], None] = lambda _: None,
        record: Callable[[Frame], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._session = session
        self._progress = progress
        self._observe = observe
        self._on_connected = on_connected
        self._warn = warn
        self._clock = clock
        self._interval_s = 1.0 / session.video.fps
        self._policy = TimedPolicy(build_policy(session.policy_kind or session.policy, **session.policy_options))
        self._machine = ClientMachine.for_session(self._policy, session)
        self.recorder = Recorder(self._interval_s, session.geometry)
        self._inbox: Inbox = queue.SimpleQueue()
        post = self._inbox.put
        keys = read_client_keys(Path(session.keys)) if session.keys else None
        self._offload_worker = OffloadWorker(
            session.server_address, session.geometry, session.model_id, post, keys, session.video.size
        )
        self._tracker_worker = TrackerWorker(build_tracker(session.tracker), post)
        self._motion_worker = MotionWorker(session.geometry, session.motion, post)
        self._estimator_worker = EstimatorWorker(self._policy, post)
        video = session.video
        self._camera = Camera(
            partial(open_in_time, video),
            video.fps,
            video.frames,
            session.buffer_frames,
            live=video.live,
            record=record,
            clock=self._clock.now_s,
            sleep=self._clock.sleep,
        )
        self._watch = DeliveryWatch(video)
        tracker = build_tracker(session.tracker) if self._policy.uses_tracker else None
        self._pump = FramePump(self._camera, tracker, post)
        self._start_s = math.nan

    def play(self) -> None:
        """Play to the end of the clip, then wait for the offloads in flight; the records are in `recorder`."""
        with self._offload_worker, self._tracker_worker, self._motion_worker, self._estimator_worker:
            self._wait_for_server()
            self._on_connected()
            self._start_s = self._camera.start()
            try:
                with self._pump:
                    for frame_index in range(self._session.video.frames):
                        self._serve_until(self._start_s + (frame_index + 1) * self._interval_s)
                        self._handle(RenderDue(frame_index))
                        self._progress(frame_index + 1, self.recorder.offload_count, self.recorder.lost_offloads)
                self._drain()
            finally:
                self._camera.stop()

    def _now_s(self) -> float:
        return self._clock.now_s() - self._start_s

    def _wait_for_server(self) -> None:
        deadline_s = self._clock.now_s() + self._session.connect_timeout_s
        while (report := self._clock.next_report(self._inbox, deadline_s)) is not None:
            if isinstance(report, WorkerFailed):
                raise report.error
            if isinstance(report, LinkChanged) and report.up:
                self._machine.handle(report, 0.0)
                return
        raise UserError(
            f"the server at {self._session.server_address} did not answer within "
            f"{self._session.connect_timeout_s:g} s ({self._offload_worker.last_error}): is it running?"
        )

    def _serve_until(self, deadline_s: float) -> None:
        """Handle reports until `deadline_s` on the clock."""
        while (report := self._clock.next_report(self._inbox, deadline_s)) is not None:
            self._on_report(report)

    def _on_report(self, report: Report) -> None:
        match report:
            case WorkerFailed():
                raise report.error
            case TrackingTime():
                self.recorder.tracked(report.frame_index, report.tracking_s)
            case MotionTime():
                self.recorder.analysed(report.motion_s)
            case EstimationTime():
                self.recorder.estimated_ahead(report.estimation_s)
            case Encoded():
                start_time_s = report.start_s - self._start_s
                self.recorder.encoded(report.offload_id, start_time_s, report.encode_s, report.payload_bytes)
            case FrameCaptured():
                self.recorder.captured(report.frame.index, report.frame.capture_time_s)
                self._handle(report)
                self._pump.handled()
            case ResultArrived():
                if report.offload_id in self._machine.outstanding:
                    self.recorder.answered(report)
                    self._handle(report)
            case _:
                self._handle(report)

    def _handle(self, event: Event) -> None:
        self._observe(event)
        for action in self._machine.handle(event, self._now_s()):
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        self._observe(action)
        match action:
            case StartOffload():
                decision_s = self._policy.decision_s if action.second_round_of < 0 else 0.0
                self.recorder.offload_started(action, self._now_s(), decision_s)
                self._offload_worker.submit(action)
            case DeclineOffload():
                self.recorder.declined(action.frame_index)
            case EndOffload():
                self.recorder.offload_ended(action)
            case Reconnect():
                self._offload_worker.reconnect()
            case Track() | CatchUp() | Locate():
                self._tracker_worker.submit(action)
            case AnalyseMotion():
                self._motion_worker.submit(action)
            case EstimateAhead():
                self._estimator_worker.submit(action)
            case Render():
                self._rendered(action)

    def _rendered(self, render: Render) -> None:
        delivered = self._camera.delivered(render.frame_index)
        self.recorder.rendered(render, self._now_s(), delivered)
        if warning := self._watch.warning(delivered):
            self._warn(warning)

    def _drain(self) -> None:
        """Wait for the offloads in flight at the last frame; no other starts."""
        self._machine.stop_offloading()
        deadline_s = self._clock.now_s() + self._session.drain_s
        while self._machine.outstanding:
            if (report := self._clock.next_report(self._inbox, deadline_s)) is None:
                break
            self._on_report(report)
        for action in self._machine.finish("the run ended first"):
            self._carry_out(action)
