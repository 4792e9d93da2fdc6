"""One session and one script of events for every driver of the client's state machine.

Frames come every 0.1 s. What happens in frame interval k (frame k is captured at its start, rendered at its end):

==  ==========================================================================================================
0   offload 0 starts with frame 0
2   its result comes; the tracker catches up from frame 0 to 2; offload 1 (frame 2) starts, and is refused immediately
3   offload 2 starts with frame 3; it is never answered
6   at its end offload 2 is lost, the connection is closed and another one opened
7   the other connection is there; the policy declines to offload frame 7
8   offload 3 starts with frame 8
10  its result comes; the tracker catches up from frame 8 to 10; offload 4 (frame 10) starts
11  the clip ends while offload 4 is under way
==  ==========================================================================================================
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.server.blob_server import GEOMETRY, BlobDetector
from tests.server.conftest import PATIENCE_S
from tests.virtual.test_virtual_client import TABLES
from vitmalis.client.clock import Inbox
from vitmalis.client.events import (
    BoxesLocated,
    EstimatedAhead,
    FrameCaptured,
    LinkChanged,
    MotionAnalysed,
    OffloadRefused,
    ResultArrived,
    TrackingDone,
)
from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.recorder import Recorder
from vitmalis.client.session import ClientSession
from vitmalis.client.workers import Encoded, EstimationTime, MotionTime, Report, TrackingTime, WorkerFailed
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.types import Configuration
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import DirectConnection
from vitmalis.virtual.server import VirtualServer

WIDTH, HEIGHT, FPS, FRAMES = 320, 192, 10.0, 12
POLICY = "scripted"
DECLINED = 7
"""The frame that the policy declines."""


class ScriptedPolicy(TrackB2B):
    """Sends whole frames but frame 7, which it declines; its second decision asks for more than the model has.

    Once there is a result, it fails unless the only object that it knows is the red box, where it is in the frame. It
    estimates ahead, and fails unless what it then knows is of the offload before.
    """

    uses_objects = True
    uses_motion = True
    estimates_ahead = True

    def __init__(self) -> None:
        super().__init__()
        self._decisions = 0
        self._offloaded: int | None = None

    def decide(self, state: ClientState) -> OffloadDecision | None:
        self._decisions += 1
        if state.results:
            x = 40 + 2 * state.frame_index
            np.testing.assert_allclose(state.tracked.boxes_xyxy, [[x, 64, x + 64, 128]], atol=4)
        assert state.ahead == self._offloaded
        if state.frame_index == DECLINED:
            return None
        self._offloaded = state.frame_index
        decision = super().decide(state)
        if self._decisions == 2:
            decision = OffloadDecision(Configuration(restoration_point=9))
        if not isinstance(state.ahead, int):
            return decision
        return replace(decision, estimates_age_frames=state.frame_index - state.ahead)

    def estimate_ahead(self, state: ClientState) -> int:
        return state.frame_index


def write_video(path: Path) -> VideoSpec:
    """A red box that moves over a grey wall, both with a texture that can be tracked."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 140, (HEIGHT // 8, WIDTH // 8, 1), np.uint8).repeat(8, 0).repeat(8, 1)
    dots = rng.integers(0, 60, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
    box, images = np.stack([np.full_like(dots, 235), dots, dots], axis=-1), []
    for index in range(FRAMES):
        image = wall.repeat(3, 2)
        image[64:128, 40 + 2 * index : 104 + 2 * index] = box
        images.append(image)
    write_clip(path, images, FPS, (WIDTH, HEIGHT))
    return VideoSpec("red", str(path), FPS, 0, FRAMES, WIDTH, HEIGHT)


def session(video: VideoSpec, address: str = "") -> ClientSession:
    """The session that every driver plays."""
    return ClientSession(
        video=video,
        server_address=address,
        output_dir="",
        geometry=GEOMETRY,
        policy=POLICY,
        offload_timeout_s=0.35,
        drain_s=0.0,
    )


# --- virtual ----------------------------------------------------------------------------------------------------------


class ScriptedConnection(DirectConnection):
    """Loses what is sent from 0.3 s on; the next connection takes 0.08 s and loses nothing."""

    def __init__(self) -> None:
        self._loses = True

    def upload(self, sent_s: float, payload_bytes: int) -> float:
        return sent_s + (1000.0 if self._loses and sent_s > 0.3 else 0.0)

    def reconnect(self, now_s: float) -> float:
        self._loses = False
        return now_s + 0.08


def play_virtual(video: VideoSpec) -> Recorder:
    """The script on the virtual clock, where a result takes 0.25 s."""
    server = VirtualServer(BlobDetector(), video, "sha")
    client = VirtualClient(session(video), ScriptedPolicy(), server, ScriptedConnection(), Durations(TABLES))
    client.play()
    return client.recorder


# --- realtime ---------------------------------------------------------------------------------------------------------

Step = Callable[[], object] | Sequence[type[Report]]
"""Something to do, or reports to wait for in any order."""


class StepClock:
    """Time that stands still until the reports of an interval have come, and then jumps to the interval's end."""

    def __init__(self, intervals: Sequence[Sequence[Step]]) -> None:
        self._intervals = deque(deque(steps) for steps in intervals)
        self._expected: Counter[type[Report]] = Counter()
        self._early: list[Report] = []
        self._now_s = 0.0
        self._changed = threading.Condition()

    def now_s(self) -> float:
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Return when the time has changed, or soon."""
        with self._changed:
            self._changed.wait(timeout=0.1)

    def next_report(self, inbox: Inbox, until_s: float) -> Report | None:
        while not self._expected.total() and self._intervals[0]:
            step = self._intervals[0].popleft()
            if callable(step):
                step()
            else:
                self._expected.update(step)
        if self._expected.total():
            return self._take(inbox)
        self._intervals.popleft()
        with self._changed:
            self._now_s = until_s
            self._changed.notify_all()
        return None

    def _take(self, inbox: Inbox) -> Report:
        """The next report whose turn it is; others wait."""
        waiting, self._early = self._early, []
        while True:
            for position, report in enumerate(waiting):
                if self._expected[type(report)] or isinstance(report, WorkerFailed):
                    self._expected[type(report)] -= 1
                    self._early += waiting[position + 1 :]
                    return report
                self._early.append(report)
            try:
                waiting = [inbox.get(timeout=PATIENCE_S)]
            except queue.Empty:
                raise AssertionError(f"not all of {dict(self._expected)} came, but {self._early}") from None


_FRAME = (FrameCaptured, MotionTime, MotionAnalysed)
_TRACKED = (TrackingTime, TrackingDone)
_LOCATED = (TrackingTime, BoxesLocated)
_SENT = (Encoded, EstimationTime, EstimatedAhead)


def realtime_script(detector: BlobDetector) -> list[list[Step]]:
    """What comes in each interval, and after the last; the detector answers while its gate is open."""
    answer, wait = detector.gate.set, detector.gate.clear
    tracked: list[Step] = [[*_FRAME, *_TRACKED]]
    return [
        [wait, [LinkChanged], [*_FRAME, *_SENT]],
        [_FRAME],
        [_FRAME, answer, [ResultArrived], wait, [*_LOCATED, *_SENT, OffloadRefused, *_TRACKED]],
        [[*_FRAME, *_LOCATED, *_SENT, *_TRACKED]],
        tracked,
        tracked,
        tracked,
        [*tracked, [LinkChanged]],
        [[*_FRAME, *_LOCATED, *_SENT, *_TRACKED]],
        tracked,
        [*tracked, answer, [ResultArrived], wait, [*_LOCATED, *_SENT, *_TRACKED]],
        tracked,
        [],
    ]


def play_realtime(video: VideoSpec) -> Recorder:
    """The script in real threads, with a socket and a server in this process."""
    detector = BlobDetector()
    with ServerEndpoint("tcp://127.0.0.1:0", max_payload_bytes=2**20) as endpoint:
        service = Service(endpoint, detector)
        service.warm_up()
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            client = RealtimeClient(session(video, endpoint.address), clock=StepClock(realtime_script(detector)))
            client.play()
        finally:
            detector.gate.set()
            service.stop()
            thread.join(PATIENCE_S)
            service.close(PATIENCE_S)
    return client.recorder


DRIVERS: dict[str, Callable[[VideoSpec], Recorder]] = {"realtime": play_realtime, "virtual": play_virtual}
"""Drivers of the state machine by name; each plays the script and returns its records."""
