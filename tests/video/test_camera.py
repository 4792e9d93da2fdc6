from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.types import Frame, RgbImage
from vitmalis.video.camera import Camera, CameraBuffer
from vitmalis.video.spec import Overdue


def images(count: int) -> Iterator[RgbImage]:
    for i in range(count):
        yield np.full((2, 4, 3), i, np.uint8)


class FakeClock:
    """A clock that advances only in `sleep`."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_s += seconds


def take_all(camera: Camera) -> list[Frame]:
    frames = []
    while not camera.finished:
        if (frame := camera.get(timeout_s=5.0)) is not None:
            frames.append(frame)
    return frames


def test_frames_are_delivered_at_their_strict_times() -> None:
    clock = FakeClock()
    camera = Camera(lambda _: images(20), fps=16, frames=20, capacity=20, clock=clock, sleep=clock.sleep)
    start_s = camera.start()
    frames = take_all(camera)
    camera.stop()
    assert start_s == 100.0
    assert [f.index for f in frames] == list(range(20))
    assert [f.capture_time_s for f in frames] == pytest.approx([i / 16 for i in range(20)])
    assert [int(f.image[0, 0, 0]) for f in frames] == list(range(20))
    assert camera.buffer.lost == []


@pytest.mark.parametrize("skips", [False, True])
def test_images_that_are_decoded_too_late_are_lost_and_later_ones_are_on_time(skips: bool) -> None:
    clock, recorded = FakeClock(), []
    taken = threading.Event()

    def stalling(overdue: Overdue) -> Iterator[RgbImage | None]:
        for i, image in enumerate(images(20)):
            if i == 12:
                taken.wait(5.0)
                clock.sleep(4.5 / 16)  # from the time of image 11 to between those of 15 and 16
            yield None if skips and overdue(i) else image

    camera = Camera(stalling, fps=16, frames=20, capacity=20, record=recorded.append, clock=clock, sleep=clock.sleep)
    camera.start()
    before = [camera.get(5.0) for _ in range(12)]
    taken.set()
    frames = [frame for frame in before if frame] + take_all(camera)
    camera.stop()
    assert camera.buffer.lost == [12, 13, 14]
    assert [f.index for f in frames] == [*range(12), *range(15, 20)]
    assert [f.capture_time_s * 16 for f in frames] == [*range(12), 15.5, *range(16, 20)]
    assert [int(f.image[0, 0, 0]) for f in frames] == [f.index for f in frames]
    assert [f.index for f in recorded] == [f.index for f in frames]


@given(decoding=st.lists(st.floats(0, 4), max_size=30))
def test_no_frame_is_late_however_slow_its_decoder(decoding: list[float]) -> None:
    clock = FakeClock()

    def slow() -> Iterator[RgbImage]:
        for intervals, image in zip(decoding, images(len(decoding)), strict=True):
            clock.sleep(intervals / 16)
            yield image

    camera = Camera(lambda _: slow(), fps=16, frames=30, capacity=30, clock=clock, sleep=clock.sleep)
    camera.start()
    frames = take_all(camera)
    camera.stop()
    assert all(f.index <= f.capture_time_s * 16 < f.index + 1 for f in frames)
    assert sorted([*(f.index for f in frames), *camera.buffer.lost]) == list(range(len(decoding)))


@given(capacity=st.integers(1, 10), count=st.integers(0, 30))
def test_full_buffer_loses_the_oldest_and_counts_every_one(capacity: int, count: int) -> None:
    buffer = CameraBuffer(capacity)
    for i in range(count):
        buffer.put(Frame(i, i / 30, np.zeros((1, 1, 3), np.uint8)))
    buffer.close()
    kept = []
    while (frame := buffer.get(0)) is not None:
        kept.append(frame.index)
    assert buffer.lost + kept == list(range(count))
    assert len(kept) == min(capacity, count)
    assert buffer.finished


def test_error_of_the_source_reaches_the_consumer_after_the_frames_before_it() -> None:
    def broken() -> Iterator[RgbImage]:
        yield from images(3)
        raise OSError("the file ends in mid-frame")

    clock = FakeClock()
    camera = Camera(lambda _: broken(), fps=30, frames=20, clock=clock, sleep=clock.sleep)
    camera.start()
    assert [camera.get(5.0).index for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    with pytest.raises(OSError, match="mid-frame"):
        camera.get(5.0)
    camera.stop()


def test_stop_in_mid_play_ends_both_threads() -> None:
    camera = Camera(lambda _: images(10_000), fps=1000.0, frames=10_000)
    camera.start()
    assert camera.get(5.0) is not None
    camera.stop()
    camera.stop()
    assert not [t for t in threading.enumerate() if t.name in ("camera", "camera-decoder")]


def test_live_images_take_the_slot_they_came_in() -> None:
    clock = FakeClock()
    arrived = threading.Event()

    def device() -> Iterator[RgbImage]:
        for at_s in (100.0, 100.1, 100.14, 100.52, 100.56):  # slots 0, 1, 1 again, 5, 6 at 10 FPS
            clock.now_s = at_s
            yield np.zeros((1, 1, 3), np.uint8)
            arrived.wait(5.0)
            arrived.clear()

    recorded: list[Frame] = []
    camera = Camera(lambda _: device(), fps=10, frames=6, live=True, record=recorded.append, clock=clock)
    camera.start()
    slots = []
    for expected in (True, True, False, True):
        frame = camera.get(5.0 if expected else 0.3)
        slots.append(frame.index if frame else None)
        arrived.set()
    assert camera.get(5.0) is None
    assert camera.finished, "slot 6 is after the last of the 6 frames"
    camera.stop()
    assert slots == [0, 1, None, 5]
    assert [frame.index for frame in recorded] == [0, 1, 5]


def test_a_buffer_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CameraBuffer(0)


def test_a_buffer_knows_what_was_added_to_it_even_if_it_was_lost_there() -> None:
    buffer = CameraBuffer(1)
    for index in (0, 2, 3):
        buffer.put(Frame(index, index / 30, np.zeros((1, 1, 3), np.uint8)))
    assert buffer.lost == [0, 2]
    assert [buffer.was_added(index) for index in range(5)] == [True, False, True, True, False]
