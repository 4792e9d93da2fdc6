"""Worker threads of the realtime client: their base classes, the tracker's, the motion analyzer's, the estimator's."""

from __future__ import annotations

import abc
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from vitmalis.client.events import (
    AnalyseMotion,
    BoxesLocated,
    CatchUp,
    EstimateAhead,
    EstimatedAhead,
    FrameCaptured,
    LinkChanged,
    Locate,
    MotionAnalysed,
    OffloadRefused,
    ResultArrived,
    TrackerJob,
    TrackingDone,
)
from vitmalis.policy import Policy
from vitmalis.regions import ModelGeometry, MotionAnalyzer, MotionOptions
from vitmalis.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Encoded:
    """Report: a frame was compressed; `start_s` is `time.monotonic()` at the start of encoding."""

    offload_id: int
    start_s: float
    encode_s: float
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class TrackingTime:
    """Report: how long the tracker job took that ended at `frame_index`."""

    frame_index: int
    tracking_s: float


@dataclass(frozen=True, slots=True)
class MotionTime:
    """Report: how long the motion analysis of a frame took."""

    motion_s: float


@dataclass(frozen=True, slots=True)
class EstimationTime:
    """Report: how long the policy estimated ahead of a decision."""

    estimation_s: float


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """Report: a thread ended with an error, which ends the run."""

    error: Exception


Report = (
    FrameCaptured
    | LinkChanged
    | ResultArrived
    | OffloadRefused
    | TrackingDone
    | BoxesLocated
    | TrackingTime
    | MotionAnalysed
    | MotionTime
    | EstimatedAhead
    | EstimationTime
    | Encoded
    | WorkerFailed
)
Post = Callable[[Report], None]
Job = TypeVar("Job")


class Worker(threading.Thread, abc.ABC):
    """Base of the threads, used as a context manager; an error that ends one is reported as `WorkerFailed`."""

    def __init__(self, name: str, post: Post) -> None:
        super().__init__(name=name, daemon=True)
        self._post = post
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work until stopped, and report an error."""
        try:
            self.work()
        except Exception as error:  # the main thread raises it
            self._post(WorkerFailed(error))

    @abc.abstractmethod
    def work(self) -> None:
        """Do the work of the thread; returns once `_stopping` is set or the work is done."""

    def stop(self) -> None:
        """Ask the thread to end, and wait for it."""
        self._stopping.set()
        self.join(timeout=10.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class JobWorker(Worker, Generic[Job]):
    """Base of the threads that carry out jobs, one at a time, in their order."""

    def __init__(self, name: str, post: Post) -> None:
        super().__init__(name, post)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def submit(self, job: Job) -> None:
        """Queue a job for this thread."""
        self._jobs.put(job)

    def work(self) -> None:
        """Carry out the jobs until there are no more."""
        while (job := self._jobs.get()) is not None:
            self.carry_out(job)

    @abc.abstractmethod
    def carry_out(self, job: Job) -> None:
        """Carry out a job, and report how long it took and what came of it."""

    def stop(self) -> None:
        """End after the running job."""
        self._jobs.put(None)
        super().stop()


class TrackerWorker(JobWorker[TrackerJob]):
    """Thread that runs the tracker's jobs; their ends are reported as `TrackingDone` or `BoxesLocated`."""

    def __init__(self, tracker: Tracker, post: Post) -> None:
        super().__init__("tracker", post)
        self._tracker = tracker

    def carry_out(self, job: TrackerJob) -> None:
        """Run a job of the tracker."""
        start_s = time.perf_counter()
        done = run_tracking(self._tracker, job)
        self._post(TrackingTime(done.frame_index, time.perf_counter() - start_s))
        self._post(done)


def run_tracking(tracker: Tracker, job: TrackerJob) -> TrackingDone | BoxesLocated:
    """Carry out a tracker job; return the event that ends it."""
    (last, _), images = job.frames[-1], [image for _, image in job.frames]
    if isinstance(job, Locate):
        return BoxesLocated(last, tracker.locate(job.detections, images))
    if isinstance(job, CatchUp):
        offloaded, *images = images
        tracker.restart(offloaded, job.detections)
    return TrackingDone(last, tracker.advance(images), tracker.retention)


class MotionWorker(JobWorker[AnalyseMotion]):
    """Thread that analyses the motion of frames, which is reported as `MotionAnalysed`.

    Args:
        geometry: regions of the server's model, which motion is counted in.
        options: see `MotionOptions`.
        post: takes the reports.
    """

    def __init__(self, geometry: ModelGeometry, options: MotionOptions, post: Post) -> None:
        super().__init__("motion", post)
        self._geometry = geometry
        self._options = options
        self._analyzer: MotionAnalyzer | None = None

    def carry_out(self, job: AnalyseMotion) -> None:
        """Analyse the motion of a frame."""
        height, width = job.frame.image.shape[:2]
        self._analyzer = self._analyzer or MotionAnalyzer(self._geometry.grid(width, height), self._options)
        start_s = time.perf_counter()
        motion = self._analyzer.analyse(job.frame.image)
        self._post(MotionTime(time.perf_counter() - start_s))
        self._post(MotionAnalysed(motion))


class EstimatorWorker(JobWorker[EstimateAhead]):
    """Thread that lets the policy estimate ahead of its decisions, which is reported as `EstimatedAhead`."""

    def __init__(self, policy: Policy, post: Post) -> None:
        super().__init__("estimator", post)
        self._policy = policy

    def carry_out(self, job: EstimateAhead) -> None:
        """Estimate ahead of the next decision."""
        start_s = time.perf_counter()
        estimates = self._policy.estimate_ahead(job.state)
        self._post(EstimationTime(time.perf_counter() - start_s))
        self._post(EstimatedAhead(estimates))
