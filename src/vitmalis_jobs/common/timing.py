"""Durations of calls: single ones, medians, and ratios of calls that run directly one after the other."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch

Run = Callable[[], object]
GPU_WARM_UP, GPU_STREAM_CALLS = 10, 10
REPEATS = ((100.0, 30), (2000.0, 9), (math.inf, 3))
"""Longest call, ms, and how often it is repeated; a GPU's calls take milliseconds."""
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def timed(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> tuple[_Result, float]:
    """Call a function that does its work on this processor; return its result and the seconds that it took."""
    start_s = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start_s


def processor_timed(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> tuple[_Result, float]:
    """Call a function that works in this thread alone; return its result and the seconds of processor time it took.

    On a quiet machine that is as long as the call lasts; on a busy one it leaves out what other programs ran meanwhile.
    """
    start_s = time.thread_time()
    result = function(*arguments, **options)
    return result, time.thread_time() - start_s


class Stopwatch:
    """Durations of calls on a device, each from an idle device to an idle device.

    A call that hands work to a GPU returns before the work is done, so the device is waited for at both ends: what was
    queued before is not counted, and what the call has queued is.

    Args:
        device: where the work is done; None for none but this processor, where nothing is waited for.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = None if device is None or device.type == "cpu" else device

    @property
    def on_gpu(self) -> bool:
        """Whether the device is waited for, as it works on its own."""
        return self._device is not None

    def wait(self) -> None:
        """Wait until the device has done everything that it was given."""
        if self._device is not None:
            import torch

            torch.accelerator.synchronize(self._device)

    def timed(
        self, function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
    ) -> tuple[_Result, float]:
        """Call a function; return its result and the seconds that it and its work on the device took."""

        def complete() -> _Result:
            result = function(*arguments, **options)
            self.wait()
            return result

        self.wait()
        return timed(complete)

    def duration_ms(self, run: Run) -> float:
        """Duration of one call, ms."""
        return 1e3 * self.timed(run)[1]

    def median_ms(self, run: Run, repeats: int) -> float:
        """Median duration of `repeats` calls after those that warm up, ms."""
        self.warm_up(run)
        return round(statistics.median(self.duration_ms(run) for _ in range(repeats)), 2 if self._device is None else 3)

    def warm_up(self, run: Callable[[], _Result]) -> _Result:
        """Call until libraries have chosen their kernels and a GPU its clock, once on a processor; returns a result."""
        for _ in range(0 if self._device is None else GPU_WARM_UP - 1):
            run()
        result = run()
        self.wait()
        return result

    def rehearse(self, run: Run) -> None:
        """Call once on a GPU, where the first call of a size chooses, compiles or records kernels."""
        if self._device is not None:
            run()

    def stream_ms(self, run: Run, calls: int = GPU_STREAM_CALLS) -> float | None:
        """Time of one of several calls that follow each other without a wait, ms; None where there is no GPU.

        It is read from events in the GPU's queue. Where it is well below `median_ms`, a single call waits for the host.
        """
        if self._device is None:
            return None
        import torch

        start, end = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        self.wait()
        start.record()
        for _ in range(calls):
            run()
        end.record()
        self.wait()
        return round(start.elapsed_time(end) / calls, 3)


HOST = Stopwatch()
"""Of calls that do their work on this processor."""


def default_repeats(call_ms: float) -> int:
    """How often to repeat a call of this duration: a few seconds of them, and at least three."""
    return next(repeats for limit_ms, repeats in REPEATS if call_ms <= limit_ms)


@dataclass(slots=True)
class Pairs:
    """Durations of two calls that are compared, ms.

    The two of one index ran directly one after the other, so that what slows the machine slows both.

    Attributes:
        stopwatch: of the device that both run on.
        ours_ms, base_ms: durations of the two.
    """

    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    ours_ms: list[float] = field(default_factory=list)
    base_ms: list[float] = field(default_factory=list)

    def add(self, ours: Run, base: Run) -> None:
        """Run both once; they take turns in being first."""
        first = len(self.ours_ms) % 2 == 0
        runs = ((ours, self.ours_ms), (base, self.base_ms))
        for run, durations_ms in runs if first else runs[::-1]:
            durations_ms.append(self.stopwatch.duration_ms(run))

    @property
    def ratio(self) -> float:
        """Median over the pairs of `ours / base`."""
        return statistics.median(ours / base for ours, base in zip(self.ours_ms, self.base_ms, strict=True))

    @property
    def median_ms(self) -> tuple[float, float]:
        """Medians of `ours` and of `base`, ms, each over all its calls."""
        return statistics.median(self.ours_ms), statistics.median(self.base_ms)
