"""The thread that decodes and infers, so that the receiving thread can time the messages that arrive meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from vitmalis.network.wire.feedback import AskedRegions
from vitmalis.network.wire.messages import Failure, Offload, Result
from vitmalis.network.wire.payloads import pack_detections
from vitmalis.server.admission import MAX_PIXELS
from vitmalis.server.cost import estimated_cost
from vitmalis.server.decoding import DecodedFrame, Decoder, DetectorLike, batch_key, decode_offload, infer
from vitmalis.server.fair_queue import FairQueue
from vitmalis.server.feedback import asked_regions
from vitmalis.server.heap import HeapTrimmer
from vitmalis.server.token_cache import MAX_BYTES, TokenCache
from vitmalis.server.warm_up import FrameSize, Preparation, PreparingDetector, WarmUp
from vitmalis.types import Configuration, Detections

_log = logging.getLogger(__name__)
_BLANK_SIZE = (960, 540)
_STEP_FRAMES = 2
"""Frames that a step of a preparation counts as where clients share the detector: it computes one, and records it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the load and the memory of a server.

    Attributes:
        queue_capacity: most offloads of all clients that may wait for inference.
        queue_per_client: most offloads of one client that may wait; the next one is answered that the server is busy.
        max_pixels: larger frames are refused before decoding.
        max_batch: most frames that are inferred as one batch, each of another client; 1: one by one.
        max_cached_bytes: most memory for tokens that are cached for the next offloads of clients.
        max_growth_bytes: memory that may be added after the first inference; beyond it connections are closed, the one
            that holds most first. None: half of what machine and cgroup have left then.
    """

    queue_capacity: int = 32
    queue_per_client: int = 2
    max_pixels: int = MAX_PIXELS
    max_batch: int = 1
    max_cached_bytes: int = MAX_BYTES
    max_growth_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted offload: sender, content, duration of its upload, and time of its receipt (`time.monotonic()`)."""

    peer: bytes
    offload: Offload
    jpeg: bytes
    transfer_s: float
    received_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request; `Result.server_s` is set when it is sent."""

    request: Request
    message: Result | Failure
    payload: bytes = b""


class InferenceWorker:
    """Serves requests from a bounded queue; clients share it by the estimated cost of what they offload.

    Args:
        detector: the served model.
        on_answer: called in the worker's thread with every answer, exactly one per request.
        limits: how many requests may wait, and how large they may be.
        decoder: of their payloads.
        warm_up: what the detector prepares for.
        on_prepared: called in the worker's thread with the size of each preparation of `prepare` that has ended.
    """

    def __init__(
        self,
        detector: DetectorLike,
        on_answer: Callable[[Answer], None],
        limits: Limits,
        decoder: Decoder = decode_offload,
        warm_up: WarmUp = WarmUp(),  # noqa: B008
        on_prepared: Callable[[FrameSize], None] = lambda _: None,
    ) -> None:
        self._detector, self._decoder, self._warm_up = detector, decoder, warm_up
        self._on_answer, self._on_prepared = on_answer, on_prepared
        self._max_pixels, self._max_batch = limits.max_pixels, limits.max_batch
        self._tokens = TokenCache(limits.max_cached_bytes)
        self._queue: FairQueue[Request | Preparation] = FairQueue(limits.queue_capacity, limits.queue_per_client)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._warm = threading.Event()
        self._warm_up_error: Exception | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread still serves; it ends by itself only if the model no longer works."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread and wait for its warm-up; raise what the first inference raises."""
        self._thread.start()
        self._warm.wait()
        if self._warm_up_error is not None:
            raise self._warm_up_error

    def submit(self, request: Request) -> str | None:
        """Queue a request and return None, or return why it cannot wait."""
        self._tokens.open(request.peer)
        return self._queue.put(request.peer, request, estimated_cost(request.offload, self._detector.geometry))

    def prepare(self, size: FrameSize) -> bool:
        """Have the detector prepare for frames of a size, taking turns with the requests of clients.

        Returns:
            False where there is nothing to do: the warm-up has no such part, the detector prepares for nothing, frames
            of this size are not served, or the queue is full.
        """
        if not self._warm_up.at_hello or size[0] * size[1] > self._max_pixels:
            return False
        return isinstance(self._detector, PreparingDetector) and self._queued(self._preparation(size))

    def forget(self, peer: bytes) -> None:
        """Drop what is cached for a client whose connection has ended; no request of it may follow."""
        self._tokens.forget(peer)

    def stop(self, timeout_s: float) -> bool:
        """Drop waiting requests and end after the running batch; False when that takes longer than `timeout_s`."""
        self._stopping = True
        self._queue.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._begin()
        except Exception as error:
            self._warm_up_error = error
            return
        finally:
            self._warm.set()
        heap = HeapTrimmer()
        try:
            while taken := self._queue.take(self._max_batch, self._alike):
                if requests := [each for each in taken if isinstance(each, Request)]:
                    self._answer(requests)
                for preparation in [each for each in taken if isinstance(each, Preparation)]:
                    self._prepare(preparation)
                heap.trim()
        except Exception:
            _log.exception("the inference thread ended")

    def _begin(self) -> None:
        """Warm up in the thread that serves, since libraries cache per thread; no offload is to wait for that."""
        start_s = time.monotonic()
        for size in self._warm_up.sizes:
            preparation = self._preparation(size)
            while self._advanced(preparation):
                pass
        self._infer_blank()
        width, height = self._blank_size
        _log.info("warmed up in %.1f s, at last with a blank frame of %dx%d", time.monotonic() - start_s, width, height)

    @property
    def _blank_size(self) -> FrameSize:
        return self._warm_up.sizes[0] if self._warm_up.sizes else _BLANK_SIZE

    def _infer_blank(self) -> None:
        """Infer a blank frame, which after a failure shows whether the model still works.

        A CUDA context may be lost for good.
        """
        width, height = self._blank_size
        self._detector.detect(np.zeros((height, width, 3), np.uint8))

    def _preparation(self, size: FrameSize) -> Preparation:
        return Preparation(self._detector, size, self._max_batch, self._warm_up.limit_s)

    def _queued(self, preparation: Preparation) -> bool:
        """Queue the next step of a preparation; False if the queue is full."""
        size, geometry = preparation.size, self._detector.geometry
        window, factor = geometry.window, geometry.factor
        frame = Offload.of(0, 0, size, Configuration(), window_size=window, downsampling_factor=factor)
        cost = _STEP_FRAMES * estimated_cost(frame, geometry)
        return self._queue.put(f"frames of {size[0]}x{size[1]}".encode(), preparation, cost) is None

    def _prepare(self, preparation: Preparation) -> None:
        """Do a step of a preparation, and queue the next one or report the end."""
        more = self._advanced(preparation)
        if not self._stopping and not (more and self._queued(preparation)):
            self._on_prepared(preparation.size)

    def _advanced(self, preparation: Preparation) -> bool:
        """Do a step, and return whether there may be another one; raise only if the model no longer works."""
        try:
            return preparation.step()
        except Exception as error:
            _log.error("a step failed", exc_info=error)
            self._infer_blank()
            return False

    def _answer(self, requests: Sequence[Request]) -> None:
        """Report exactly one answer per request, also if serving raises; raise only if the model no longer works."""
        unanswered = {id(request): request for request in requests}
        try:
            for answer in self._serve(requests):
                unanswered.pop(id(answer.request))
                self._on_answer(answer)
        except Exception as error:
            for request in unanswered.values():
                self._on_answer(_failure(request, "serving", error))
            self._infer_blank()

    def _alike(self, first: Request | Preparation, other: Request | Preparation) -> bool:
        if isinstance(first, Preparation) or isinstance(other, Preparation):
            return False
        key = batch_key(first.offload, self._detector)
        return key is not None and key == batch_key(other.offload, self._detector)

    def _serve(self, requests: Sequence[Request]) -> Iterator[Answer]:
        """Decode and infer; yield exactly one answer per request, whatever goes wrong with a frame."""
        decoded: list[tuple[Request, DecodedFrame, Result]] = []
        for request in requests:
            start_s = time.monotonic()
            try:
                self._tokens.check(request.peer, request.offload, self._detector.geometry)
                frame = self._decoder(self._detector.geometry, request.offload, request.jpeg, self._max_pixels)
            except ValueError as error:
                yield Answer(request, Failure.of(request.offload.seq, str(error)))
                continue
            except Exception as error:
                yield _failure(request, "decoding", error)
                continue
            decode_s = time.monotonic() - start_s
            waited_s = start_s - request.received_s
            result = Result(request.offload.seq, 0, decode_s, 0.0, waited_s, request.transfer_s, 0.0)
            decoded.append((request, frame, result))
        if decoded:
            yield from self._infer(decoded)

    def _infer(self, decoded: Sequence[tuple[Request, DecodedFrame, Result]]) -> Iterator[Answer]:
        """Infer frames as one batch; the inference time of each result is that of the whole batch."""
        start_s = time.monotonic()
        try:
            found, cached = self._found(decoded)
        except Exception as error:
            for request, _, _ in decoded:
                yield _failure(request, "inference", error)
            self._infer_blank()
            return
        inference_s = time.monotonic() - start_s
        for (request, _, result), detections in zip(decoded, found, strict=True):
            answer = msgspec.structs.replace(result, inference_s=inference_s, cached=cached)
            yield self._packed(request, answer, detections)

    def _found(
        self, decoded: Sequence[tuple[Request, DecodedFrame, Result]]
    ) -> tuple[list[Detections], bool | UnsetType]:
        """Detections of each frame, and for a frame that asks for it whether its tokens are cached."""
        (request, frame, _), *_ = decoded
        if request.offload.caching is UNSET:
            return infer(self._detector, [frame for _, frame, _ in decoded]), UNSET
        detections, cached = self._tokens.infer(self._detector, request.peer, frame)
        return [detections], cached

    def _packed(self, request: Request, result: Result, detections: Detections) -> Answer:
        """The answer with its payload, or a failure where the detections cannot be sent."""
        try:
            payload = pack_detections(detections)
        except ValueError as error:
            return _failure(request, "inference", error)
        mask = asked_regions(request.offload, detections, self._detector.geometry)
        asked = UNSET if mask is None else AskedRegions.of(mask)
        return Answer(request, msgspec.structs.replace(result.with_detections(detections), asked=asked), payload)


def _failure(request: Request, stage: str, error: Exception) -> Answer:
    """The answer that a stage failed; the server's log gets the traceback."""
    _log.error("%s failed", stage, exc_info=error)
    return Answer(request, Failure.of(request.offload.seq, f"{stage} failed: {type(error).__name__}: {error}"))
