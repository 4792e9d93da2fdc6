"""The stopwatch: what it waits for on a GPU, and how often it calls."""

from __future__ import annotations

import pytest
import torch

from vitmalis_jobs.common import timing
from vitmalis_jobs.common.timing import HOST, Pairs, Stopwatch, default_repeats

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


class Queue:
    """Work of a device that is done when it is waited for."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.log: list[str] = []

    def synchronize(self, device: torch.device) -> None:
        self.log += [*self.waiting, f"waited for {device}"]
        self.waiting.clear()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    fake = Queue()
    monkeypatch.setattr(torch.accelerator, "synchronize", fake.synchronize)
    return fake


def test_a_gpu_is_waited_for_before_and_after_a_call(queue: Queue) -> None:
    stopwatch = Stopwatch(torch.device("cuda:1"))
    queue.waiting.append("earlier work")

    def run() -> str:
        queue.log.append("call")
        queue.waiting.append("its work")
        return "result"

    result, elapsed_s = stopwatch.timed(run)
    assert (result, elapsed_s > 0) == ("result", True)
    assert queue.log == ["earlier work", "waited for cuda:1", "call", "its work", "waited for cuda:1"]


def test_both_of_a_pair_are_waited_for(queue: Queue) -> None:
    pairs = Pairs(Stopwatch(torch.device("cuda")))
    pairs.add(lambda: queue.log.append("ours"), lambda: queue.log.append("base"))
    assert queue.log == [waited := "waited for cuda", "ours", waited, waited, "base", waited]


@pytest.mark.parametrize("stopwatch", [HOST, Stopwatch(torch.device("cpu"))])
def test_nothing_is_waited_for_on_a_processor(stopwatch: Stopwatch, queue: Queue) -> None:
    calls: list[int] = []
    assert stopwatch.warm_up(lambda: calls.append(1) or len(calls)) == 1
    stopwatch.rehearse(lambda: calls.append(1))
    assert stopwatch.median_ms(lambda: calls.append(1), 4) >= 0
    assert len(calls) == 1 + 1 + 4
    assert stopwatch.stream_ms(lambda: calls.append(1)) is None
    assert (stopwatch.on_gpu, queue.log) == (False, [])


def test_a_gpu_is_warmed_up_longer(queue: Queue) -> None:
    calls: list[int] = []
    Stopwatch(torch.device("cuda")).warm_up(lambda: calls.append(1))
    assert len(calls) == timing.GPU_WARM_UP
    assert len(queue.log) == 1


@pytest.mark.parametrize(("call_ms", "repeats"), [(5, 30), (100, 30), (300, 9), (2000, 9), (9000, 3)])
def test_fast_calls_are_repeated_more_often(call_ms: float, repeats: int) -> None:
    assert default_repeats(call_ms) == repeats


@needs_gpu
def test_the_work_of_a_gpu_is_timed() -> None:
    stopwatch = Stopwatch(torch.device("cuda"))
    factor = torch.randn(4096, 4096, device="cuda")

    def run() -> object:
        return factor @ factor

    stopwatch.warm_up(run)
    stream_ms = stopwatch.stream_ms(run)
    assert stream_ms is not None
    assert 0 < stream_ms <= 2 * stopwatch.median_ms(run, 20)
