"""The realtime client's two working threads: one tracks, one encodes, sends and receives."""

from __future__ import annotations

import abc
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from vitmalis.client.events import (
    CatchUp,
    FrameCaptured,
    LinkChanged,
    OffloadRefused,
    ResultArrived,
    StartOffload,
    Track,
    TrackingDone,
)
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.errors import UserError
from vitmalis.network import messages
from vitmalis.network.endpoints import ClientEndpoint
from vitmalis.network.events import (
    Connected,
    Disconnected,
    Event,
    FailureReceived,
    ResultReceived,
    VersionMismatch,
)
from vitmalis.policy import OffloadOutcome
from vitmalis.tracker import OpticalFlowTracker
from vitmalis.types import Detections


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame was compressed and handed to the socket; `start_s` is `time.monotonic()` at the start of encoding."""

    offload_id: int
    start_s: float
    encode_s: float
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class TrackingTime:
    """The tracker's share of a frame: seconds of its job that ended at `frame_index`."""

    frame_index: int
    tracking_s: float


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A thread ended with an error, which the run must not outlive."""

    error: Exception


Report = (
    FrameCaptured | LinkChanged | ResultArrived | OffloadRefused | TrackingDone | TrackingTime | Encoded | WorkerFailed
)
Post = Callable[[Report], None]


class Worker(threading.Thread, abc.ABC):
    """A thread that turns its own errors into a report instead of dying in silence; use as a context manager."""

    def __init__(self, name: str, post: Post) -> None:
        super().__init__(name=name, daemon=True)
        self._post = post
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work until stopped."""
        try:
            self.work()
        except Exception as error:  # whatever it is, the main thread must hear of it
            self._post(WorkerFailed(error))

    @abc.abstractmethod
    def work(self) -> None:
        """What the thread does."""

    def stop(self) -> None:
        """Ask the thread to end and wait for it."""
        self._stopping.set()
        self.join(timeout=10.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class TrackerWorker(Worker):
    """Runs the tracker's jobs, one at a time."""

    def __init__(self, tracker: OpticalFlowTracker, post: Post) -> None:
        super().__init__("tracker", post)
        self._tracker = tracker
        self._jobs: queue.SimpleQueue[Track | CatchUp | None] = queue.SimpleQueue()

    def submit(self, job: Track | CatchUp) -> None:
        """Queue a job; its end is reported as `TrackingDone`."""
        self._jobs.put(job)

    def work(self) -> None:
        """Step or catch up, and report."""
        while (job := self._jobs.get()) is not None:
            start_s = time.perf_counter()
            frame_index, detections = run_tracking(self._tracker, job)
            self._post(TrackingTime(frame_index, time.perf_counter() - start_s))
            self._post(TrackingDone(frame_index, detections, self._tracker.retention))

    def stop(self) -> None:
        """End after the running job."""
        self._jobs.put(None)
        super().stop()


def run_tracking(tracker: OpticalFlowTracker, job: Track | CatchUp) -> tuple[int, Detections]:
    """Carry out a tracker job; return the frame it ends at and the boxes there."""
    if isinstance(job, Track):
        return job.frame_index, tracker.step(job.image)
    (_, offloaded), *later = job.frames
    detections = job.detections
    tracker.restart(offloaded, detections)
    for _, image in later:
        detections = tracker.step(image)
    return job.frames[-1][0], detections


class OffloadWorker(Worker):
    """Encodes and sends what it is told to, and reports what comes back.

    Args:
        address: the server's, or the relay's in front of it.
        model_id: what it must serve; empty for any. Another model ends the run with a `UserError`.
        post: where reports go.
    """

    def __init__(self, address: str, model_id: str, post: Post) -> None:
        super().__init__("offload", post)
        self._address = address
        self._model_id = model_id
        self._endpoint = ClientEndpoint()
        self._starts: queue.SimpleQueue[StartOffload] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[StartOffload, Encoded]] = {}

    @property
    def last_error(self) -> str:
        """Why there is no connection."""
        return self._endpoint.last_error

    def submit(self, start: StartOffload) -> None:
        """Encode and send; the outcome is reported as `ResultArrived` or `OffloadRefused`."""
        self._starts.put(start)
        self._endpoint.wake()

    def stop(self) -> None:
        """Drop the connection and end."""
        self._stopping.set()
        self._endpoint.wake()
        super().stop()

    def work(self) -> None:
        """Serve both directions from the one thread that owns the socket."""
        try:
            self._endpoint.connect(self._address)
            while not self._stopping.is_set():
                for event in self._endpoint.poll(timeout_s=1.0):
                    self._on_event(event)
                while not self._starts.empty():
                    self._send(self._starts.get())
        finally:
            self._endpoint.close()

    def _send(self, start: StartOffload) -> None:
        start_s = time.monotonic()
        payload = encode_jpeg(start.frame.image, start.decision.configuration.quality)
        encoded = Encoded(start.offload_id, start_s, time.monotonic() - start_s, len(payload))
        height, width = start.frame.image.shape[:2]
        header = messages.Offload.of(
            start.offload_id,
            start.frame.index,
            (width, height),
            start.decision.configuration,
            downsample_mask=start.decision.downsample_mask,
        )
        self._post(encoded)
        if self._endpoint.send_offload(header, payload):
            self._under_way = {start.offload_id: (start, encoded)}
        else:
            self._post(OffloadRefused(start.offload_id, f"not sent: {self._endpoint.last_error}"))

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected():
                self._check_model(event.welcome)
                self._post(LinkChanged(up=True))
            case Disconnected():
                self._under_way.clear()
                self._post(LinkChanged(up=False, reason=event.reason))
            case VersionMismatch():
                raise UserError(str(messages.ProtocolVersionError(event.theirs)))
            case FailureReceived():
                self._under_way.pop(event.seq, None)
                self._post(OffloadRefused(event.seq, event.reason))
            case ResultReceived() if event.result.seq in self._under_way:
                start, encoded = self._under_way.pop(event.result.seq)
                outcome = outcome_of(start, encoded, event)
                self._post(ResultArrived(start.offload_id, event.detections, outcome))

    def _check_model(self, welcome: messages.Welcome) -> None:
        if self._model_id and welcome.model_id != self._model_id:
            raise UserError(
                f"the server at {self._address} serves {welcome.model} {welcome.model_id}, this run is judged by "
                f"{self._model_id}: start it with the same model, weights and precision"
            )


def outcome_of(start: StartOffload, encoded: Encoded, received: ResultReceived) -> OffloadOutcome:
    """What the offload cost, split by durations alone: the two clocks need not agree.

    The server measures from the arrival of a tiny announcement to the arrival of the payload behind it (`transfer_s`);
    what is left of the network's time is propagation, both ways.
    """
    result = received.result
    e2e_latency_s = received.received_s - encoded.start_s
    network_s = max(0.0, e2e_latency_s - encoded.encode_s - result.server_s)
    transfer_s = min(result.transfer_s, network_s)
    return OffloadOutcome(
        frame_index=start.frame.index,
        decision=start.decision,
        payload_bytes=encoded.payload_bytes,
        encode_s=encoded.encode_s,
        decode_s=result.decode_s,
        inference_s=result.inference_s,
        transfer_s=transfer_s,
        rtt_s=network_s - transfer_s,
        e2e_latency_s=e2e_latency_s,
        queue_s=result.queue_s,
    )
