"""The camera: frames at their strict rate into a bounded buffer that loses the oldest and counts the loss."""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from vitmalis.types import Frame, RgbImage

_DECODE_AHEAD = 8


class CameraBuffer:
    """At most `capacity` frames, oldest first; a new frame pushes the oldest out of a full buffer.

    Attributes:
        lost: indices of the frames that were pushed out before anybody took them.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a camera buffer of {capacity} frames holds none: use at least 1")
        self._capacity = capacity
        self._frames: collections.deque[Frame] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self.lost: list[int] = []

    def put(self, frame: Frame) -> None:
        """Add the newest frame."""
        with self._changed:
            if len(self._frames) == self._capacity:
                self.lost.append(self._frames.popleft().index)
            self._frames.append(frame)
            self._changed.notify()

    def get(self, timeout_s: float) -> Frame | None:
        """The oldest frame; None when there was none within `timeout_s`, or no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout_s)
            return self._frames.popleft() if self._frames else None

    def close(self) -> None:
        """No more frames will come; those in the buffer can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty."""
        with self._changed:
            return self._closed and not self._frames


class Camera:
    """Replays images as a camera would: image i is delivered at exactly start + i / fps, never earlier.

    Decoding runs ahead in a thread of its own, so that a slow picture does not delay the next. A live source is not
    paced: each of its images takes the index of the time slot it came in, and a second one in a slot is dropped.

    Args:
        images: what is captured, RGB uint8 (H, W, 3), in order.
        fps: frames per second.
        capacity: size of the buffer, frames.
        live: the images come from a device at its own pace.
        clock, sleep: seconds of a monotonic clock, and how to wait on it.
    """

    def __init__(
        self,
        images: Iterator[RgbImage],
        fps: float,
        capacity: int = 8,
        *,
        live: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._images = images
        self._interval_s = 1.0 / fps
        self._live = live
        self._clock = clock
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._decoded: queue.Queue[RgbImage | None] = queue.Queue(_DECODE_AHEAD)
        self._primed = threading.Event()
        self._error: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (("camera-decoder", self._decode), ("camera", self._deliver))
        ]
        self._start_s = 0.0
        self.buffer = CameraBuffer(capacity)

    def start(self) -> float:
        """Begin to play once the first images are decoded; return the time of frame 0 on the clock."""
        decoder, camera = self._threads
        decoder.start()
        self._primed.wait()
        self._start_s = self._clock()
        camera.start()
        return self._start_s

    def get(self, timeout_s: float) -> Frame | None:
        """The oldest frame in the buffer, or None.

        Raises:
            Exception: what ended the source, once the frames before it are taken.
        """
        frame = self.buffer.get(timeout_s)
        if frame is None and self._error is not None and self.buffer.finished:
            raise self._error
        return frame

    @property
    def finished(self) -> bool:
        """Whether every frame was delivered and taken."""
        return self.buffer.finished and self._error is None

    def stop(self) -> None:
        """End both threads; safe at any time and more than once."""
        self._stopping.set()
        with suppress(queue.Empty):  # free a decoder that waits for room
            while True:
                self._decoded.get_nowait()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5.0)
        self.buffer.close()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # handed to whoever takes the frames
            self._error = error
        if work == self._decode:
            self._primed.set()
            self._put(None)
        else:
            self.buffer.close()

    def _decode(self) -> None:
        for image in self._images:
            self._put(image)
            if self._live or self._decoded.full():
                self._primed.set()
            if self._stopping.is_set():
                return

    def _put(self, image: RgbImage | None) -> None:
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._decoded.put(image, timeout=0.2)
                return

    def _deliver(self) -> None:
        next_index = 0
        while not self._stopping.is_set() and (image := self._next_image()) is not None:
            if self._live:
                index = round((self._clock() - self._start_s) / self._interval_s)
                if index < next_index:
                    continue
            else:
                index = next_index
                self._wait_until(self._start_s + index * self._interval_s)
            self.buffer.put(Frame(index, self._clock() - self._start_s, image))
            next_index = index + 1

    def _next_image(self) -> RgbImage | None:
        while not self._stopping.is_set():
            with suppress(queue.Empty):
                return self._decoded.get(timeout=0.2)
        return None

    def _wait_until(self, due_s: float) -> None:
        while not self._stopping.is_set() and (left_s := due_s - self._clock()) > 0:
            self._sleep(left_s)
