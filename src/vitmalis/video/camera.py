"""The camera: delivers frames at a strict rate into a bounded buffer, and drops and counts those that come too late."""

from __future__ import annotations

import collections
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from vitmalis.types import Frame, RgbImage
from vitmalis.video.spec import Overdue

_DECODE_AHEAD = 8


class CameraBuffer:
    """A buffer of at most `capacity` frames; a new frame replaces the oldest one in a full buffer.

    Attributes:
        lost: indices of the frames that were never taken: replaced in a full buffer, or too late for it.

    Raises:
        ValueError: a capacity below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a camera buffer of {capacity} frames holds none: use at least 1")
        self._capacity = capacity
        self._frames: collections.deque[Frame] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._added: collections.deque[int] = collections.deque()
        self.lost: list[int] = []

    def put(self, frame: Frame) -> None:
        """Add the newest frame, dropping the oldest one if the buffer is full."""
        with self._changed:
            if len(self._frames) == self._capacity:
                self.lost.append(self._frames.popleft().index)
            self._frames.append(frame)
            self._added.append(frame.index)
            self._changed.notify()

    def lose(self, index: int) -> None:
        """Count a frame that came too late to be added."""
        with self._changed:
            self.lost.append(index)

    def was_added(self, index: int) -> bool:
        """Whether a frame has been added, if only to be lost here; asked of each frame once, in their order."""
        with self._changed:
            while self._added and self._added[0] < index:
                self._added.popleft()
            return bool(self._added) and self._added[0] == index

    def get(self, timeout_s: float) -> Frame | None:
        """Take the oldest frame; None if there is none within `timeout_s` or the buffer is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout_s)
            return self._frames.popleft() if self._frames else None

    def close(self) -> None:
        """Declare that no more frames will come; those in the buffer can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether the buffer is closed and empty."""
        with self._changed:
            return self._closed and not self._frames


class Camera:
    """Replays images as a camera would: image i is delivered at start + i / fps or later, before start + (i + 1) / fps.

    Decoding runs ahead in its own thread, so that an image that is slow to decode does not delay the next. An image
    that is not decoded in time is lost: a camera does not wait, and if late images were delivered, every one after them
    would be late, too. A live source is not paced: each image gets the index of the time slot in which it arrives; a
    second one in a slot is dropped. It has no end of its own, so that delivery ends with the first image after the last
    of `frames` slots.

    Args:
        open_images: opens the captured images, RGB uint8 (H, W, 3), in order. It is given a function that says whether
            the image with a number is overdue, and may yield None in its place, see `open_in_time`.
        fps: frames per second.
        frames: how many are delivered at most: indices end before it.
        capacity: size of the buffer, frames.
        live: whether the images come from a device at its own rate.
        record: called with every delivered frame, also those that the buffer loses; it must not wait.
        clock, sleep: a monotonic clock in seconds, and the function that waits on it.
    """

    def __init__(
        self,
        open_images: Callable[[Overdue], Iterator[RgbImage | None]],
        fps: float,
        frames: int,
        capacity: int = 8,
        *,
        live: bool = False,
        record: Callable[[Frame], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._images = open_images(self._overdue)
        self._interval_s = 1.0 / fps
        self._frames = frames
        self._live = live
        self._record = record
        self._clock = clock
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._decoded: queue.Queue[tuple[int, RgbImage] | None] = queue.Queue(_DECODE_AHEAD)
        self._primed = threading.Event()
        self._error: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (("camera-decoder", self._decode), ("camera", self._deliver))
        ]
        self._start_s = math.inf
        self.buffer = CameraBuffer(capacity)

    def start(self) -> float:
        """Start to deliver once the first images are decoded; return the time of frame 0 on the clock."""
        decoder, camera = self._threads
        decoder.start()
        self._primed.wait()
        self._start_s = self._clock()
        camera.start()
        return self._start_s

    def get(self, timeout_s: float) -> Frame | None:
        """Take the oldest frame in the buffer, or None as in `CameraBuffer.get`.

        Raises:
            Exception: the error that ended the source, once all frames before it are taken.
        """
        frame = self.buffer.get(timeout_s)
        if frame is None and self._error is not None and self.buffer.finished:
            raise self._error
        return frame

    def delivered(self, index: int) -> bool:
        """Whether a frame whose time is over reached the buffer; asked of each frame once, in their order."""
        return self.buffer.was_added(index)

    @property
    def finished(self) -> bool:
        """Whether all frames have been delivered and taken, without an error."""
        return self.buffer.finished and self._error is None

    def stop(self) -> None:
        """Stop both threads; safe at any time and more than once."""
        self._stopping.set()
        with suppress(queue.Empty):  # make room for a decoder that waits for it
            while True:
                self._decoded.get_nowait()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5.0)
        self.buffer.close()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # raised by `get`
            self._error = error
        if work == self._decode:
            self._primed.set()
            self._put(None)
        else:
            self.buffer.close()

    def _decode(self) -> None:
        for index, image in enumerate(self._images):
            if image is None:
                self.buffer.lose(index)
            else:
                self._put((index, image))
            if self._live or self._decoded.full():
                self._primed.set()
            if self._stopping.is_set():
                return

    def _overdue(self, index: int) -> bool:
        """Whether it is too late to deliver an image now."""
        return self._late(index, self._time_s())

    def _late(self, index: int, time_s: float) -> bool:
        """Whether the time of an image is over, as the next one is due."""
        return time_s >= (index + 1) * self._interval_s

    def _time_s(self) -> float:
        """Seconds since image 0 was due; negative before `start`."""
        return self._clock() - self._start_s

    def _put(self, decoded: tuple[int, RgbImage] | None) -> None:
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._decoded.put(decoded, timeout=0.2)
                return

    def _deliver(self) -> None:
        last = -1
        while not self._stopping.is_set() and (decoded := self._next_image()) is not None:
            index, image = decoded
            if not self._live:
                self._wait_until(self._start_s + index * self._interval_s)
            time_s = self._time_s()
            if self._live:
                index = round(time_s / self._interval_s)
                if index <= last:
                    continue
            if index >= self._frames:
                return
            if self._late(index, time_s):
                self.buffer.lose(index)
                continue
            frame = Frame(index, time_s, image)
            self._record(frame)
            self.buffer.put(frame)
            last = index

    def _next_image(self) -> tuple[int, RgbImage] | None:
        while not self._stopping.is_set():
            with suppress(queue.Empty):
                return self._decoded.get(timeout=0.2)
        return None

    def _wait_until(self, due_s: float) -> None:
        while not self._stopping.is_set() and (left_s := due_s - self._clock()) > 0:
            self._sleep(left_s)
