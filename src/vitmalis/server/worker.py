"""The thread that decodes and infers, so that the receiving thread goes on taking the times of what arrives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from vitmalis.network.wire.messages import Failure, Offload, Result
from vitmalis.network.wire.payloads import pack_detections
from vitmalis.server.decoding import Decoded, DetectorLike, batch_key, decode_offload, infer
from vitmalis.server.fair_queue import FairQueue
from vitmalis.types import Detections

_log = logging.getLogger(__name__)
_WARM_UP_SHAPE = (540, 960, 3)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on.

    Attributes:
        queue_capacity: offloads that may wait for inference, of all clients.
        queue_per_client: offloads that may wait of one of them; the next one is told that the server is busy.
        max_pixels: larger frames are refused before decoding.
        max_batch: frames of as many clients that are inferred together when they are alike; 1: one by one.
        max_growth_bytes: memory that may be added after the first inference; beyond it all connections are cut.
    """

    queue_capacity: int = 32
    queue_per_client: int = 2
    max_pixels: int = 9_000_000
    max_batch: int = 1
    max_growth_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted offload: whose, what, how long its upload took, and when it was complete (`time.monotonic()`)."""

    peer: bytes
    offload: Offload
    jpeg: bytes
    transfer_s: float
    received_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a job; `Result.server_s` is still to be set at sending."""

    job: Job
    message: Result | Failure
    payload: bytes = b""


class Worker:
    """Serves jobs one after the other, the clients in turn, from a bounded queue.

    Args:
        detector: the model.
        answered: called in the worker's thread with every answer.
        limits: how many jobs may wait, and how large they may be.
    """

    def __init__(self, detector: DetectorLike, answered: Callable[[Answer], None], limits: Limits) -> None:
        self._detector = detector
        self._answered = answered
        self._max_pixels, self._max_batch = limits.max_pixels, limits.max_batch
        self._jobs: FairQueue[Job] = FairQueue(limits.queue_capacity, limits.queue_per_client)
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._warm = threading.Event()
        self._warm_up_error: Exception | None = None

    def start(self) -> None:
        """Start and block until a first inference went through; what that raises, this raises."""
        self._thread.start()
        self._warm.wait()
        if self._warm_up_error is not None:
            raise self._warm_up_error

    def submit(self, job: Job) -> str | None:
        """Queue a job, or say why it cannot wait."""
        return self._jobs.put(job.peer, job)

    def stop(self, timeout_s: float) -> bool:
        """Drop what waits and end after the running job; False when that took longer than `timeout_s`."""
        self._jobs.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            # In this thread, since libraries keep caches per thread; lazy initialisation would count as inference.
            self._detector.detect(np.zeros(_WARM_UP_SHAPE, np.uint8))
        except Exception as error:
            self._warm_up_error = error
            return
        finally:
            self._warm.set()
        while jobs := self._jobs.take(self._max_batch, self._alike):
            for answer in self._serve(jobs):
                self._answered(answer)

    def _alike(self, first: Job, other: Job) -> bool:
        geometry = self._detector.geometry
        return batch_key(first.offload, geometry) == batch_key(other.offload, geometry)

    def _serve(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        """Decode and infer; yield exactly one answer per job, whatever goes wrong with a frame."""
        decoded: list[tuple[Job, Decoded, Result]] = []
        for job in jobs:
            start_s = time.monotonic()
            try:
                frame = decode_offload(self._detector.geometry, job.offload, job.jpeg, self._max_pixels)
            except ValueError as error:
                yield Answer(job, Failure.of(job.offload.seq, str(error)))
                continue
            except Exception as error:
                yield _failure(job, "decoding", error)
                continue
            decode_s = time.monotonic() - start_s
            waited_s = start_s - job.received_s
            decoded.append((job, frame, Result(job.offload.seq, 0, decode_s, 0.0, waited_s, job.transfer_s, 0.0)))
        if decoded:
            yield from self._infer(decoded)

    def _infer(self, decoded: Sequence[tuple[Job, Decoded, Result]]) -> Iterator[Answer]:
        """Infer frames as one batch; each waits for the whole of it, and its result says so."""
        start_s = time.monotonic()
        try:
            found = infer(self._detector, [frame for _, frame, _ in decoded])
        except Exception as error:
            for job, _, _ in decoded:
                yield _failure(job, "inference", error)
            return
        inference_s = time.monotonic() - start_s
        for (job, _, result), detections in zip(decoded, found, strict=True):
            yield _packed(job, msgspec.structs.replace(result, inference_s=inference_s), detections)


def _packed(job: Job, result: Result, detections: Detections) -> Answer:
    """The answer with its payload, or a failure where the detections cannot be sent."""
    try:
        payload = pack_detections(detections)
    except ValueError as error:
        return _failure(job, "inference", error)
    return Answer(job, msgspec.structs.replace(result, count=len(detections)), payload)


def _failure(job: Job, stage: str, error: Exception) -> Answer:
    """The answer that a stage failed; the server's log gets the traceback."""
    _log.error("%s failed", stage, exc_info=error)
    return Answer(job, Failure.of(job.offload.seq, f"{stage} failed: {type(error).__name__}: {error}"))
