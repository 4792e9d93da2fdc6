"""The warm-up of a server: what the detector prepares for frames of a size before one of them is to be answered.

A fused detector compiles kernels and makes a CUDA graph for each kind of launch; an eager one has nothing to prepare.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

_log = logging.getLogger(__name__)

FrameSize = tuple[int, int]
"""Width and height of a frame in pixels."""

MAX_ASKED_SIZES = 4
"""Most frame sizes that are prepared for because a client names them, as long as the server runs."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a server is warmed up.

    Attributes:
        sizes: of frames that the detector prepares for before the server is ready.
        at_hello: whether it also prepares for the frames of a client, once that says how large they are.
        limit_s: most seconds for one size. It is looked at between steps, one of which takes a quarter of a second, or
            many where kernels have to be compiled. Clients give up after 60 s.
    """

    sizes: tuple[FrameSize, ...] = ()
    at_hello: bool = True
    limit_s: float = 30.0


@runtime_checkable
class PreparingDetector(Protocol):
    """A detector that can do work for frames before they come."""

    def preparations(self, image_size: tuple[int, int], max_batch: int) -> Sequence[Callable[[], None]]:
        """Steps of that work for batches of up to `max_batch` frames of (height, width), most needed first."""


class Preparation:
    """What a detector prepares for frames of one size, a step at a time; all steps in the thread that infers.

    Args:
        detector: one that is no `PreparingDetector` has no steps.
        size: of the frames.
        max_batch: most frames of a batch.
        limit_s: most seconds from now on; see `WarmUp`.

    Attributes:
        size: of the frames.
    """

    def __init__(self, detector: object, size: FrameSize, max_batch: int, limit_s: float) -> None:
        self.size = size
        self._detector, self._max_batch = detector, max_batch
        self._start_s, self._limit_s = time.monotonic(), limit_s
        self._steps: Sequence[Callable[[], None]] | None = None
        self._done = 0

    def step(self) -> bool:
        """Do the next step, and return whether there may be another one; the end is logged, and so is a failure.

        Raises:
            Exception: what a step raises; the preparation has ended then.
        """
        try:
            return self._step()
        except Exception:
            _log.warning("%s ended early, after %s", self._name, self._progress)
            raise

    def _step(self) -> bool:
        if self._steps is None:
            (width, height), detector = self.size, self._detector
            self._steps = ()
            if isinstance(detector, PreparingDetector):
                self._steps = detector.preparations((height, width), self._max_batch)
        if self._done == len(self._steps):
            if self._steps:
                _log.info("%s is done: %s", self._name, self._progress)
            return False
        if time.monotonic() - self._start_s >= self._limit_s:
            _log.info("%s has reached its limit of %g s (--warm-up-s): %s", self._name, self._limit_s, self._progress)
            return False
        self._steps[self._done]()
        self._done += 1
        return True

    @property
    def _name(self) -> str:
        return f"the preparation for frames of {self.size[0]}x{self.size[1]}"

    @property
    def _progress(self) -> str:
        elapsed_s = time.monotonic() - self._start_s
        return f"{self._done} of {len(self._steps or ())} steps in {elapsed_s:.1f} s"


class WaitingClients:
    """Clients that wait to be welcomed until the detector is prepared for their frames.

    Args:
        prepared: sizes that need no preparation.
    """

    def __init__(self, prepared: Sequence[FrameSize] = ()) -> None:
        self._prepared = set(prepared)
        self._waiting: dict[FrameSize, set[bytes]] = {}
        self._asked = 0

    def wait(self, client: bytes, size: FrameSize, prepare: Callable[[FrameSize], bool]) -> bool:
        """Whether a client has to wait.

        Args:
            client: the name of its connection.
            size: of its frames.
            prepare: begins the preparation for a size, unless there is nothing to prepare, and returns whether it did;
                called at most once for each size.
        """
        if size in self._waiting:
            self._waiting[size].add(client)
            return True
        if size in self._prepared or self._asked == MAX_ASKED_SIZES:
            return False
        self._asked += 1
        if not prepare(size):
            self._prepared.add(size)
            return False
        self._waiting[size] = {client}
        return True

    def release(self, size: FrameSize) -> set[bytes]:
        """The clients that waited for a size, whose preparation has ended."""
        self._prepared.add(size)
        return self._waiting.pop(size, set())

    def forget(self, client: bytes) -> None:
        """Drop a client whose connection has ended."""
        for clients in self._waiting.values():
            clients.discard(client)
