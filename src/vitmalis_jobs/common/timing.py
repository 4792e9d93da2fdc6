"""Durations of calls: single ones, medians, and ratios of calls that run directly one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

Run = Callable[[], object]
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def timed(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> tuple[_Result, float]:
    """Call a function; return its result and the seconds that it took."""
    start_s = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start_s


def duration_ms(run: Run) -> float:
    """Duration of one call, ms."""
    return 1e3 * timed(run)[1]


def median_ms(run: Run, repeats: int) -> float:
    """Median duration of `repeats` calls after one that warms up, ms."""
    run()
    return round(statistics.median(duration_ms(run) for _ in range(repeats)), 2)


@dataclass(slots=True)
class Pairs:
    """Durations of two calls that are compared, ms.

    The two of one index ran directly one after the other, so that what slows the machine slows both.
    """

    ours_ms: list[float] = field(default_factory=list)
    base_ms: list[float] = field(default_factory=list)

    def add(self, ours: Run, base: Run) -> None:
        """Run both once; they take turns in being first."""
        first = len(self.ours_ms) % 2 == 0
        runs = ((ours, self.ours_ms), (base, self.base_ms))
        for run, durations_ms in runs if first else runs[::-1]:
            durations_ms.append(duration_ms(run))

    @property
    def ratio(self) -> float:
        """Median over the pairs of `ours / base`."""
        return statistics.median(ours / base for ours, base in zip(self.ours_ms, self.base_ms, strict=True))

    @property
    def median_ms(self) -> tuple[float, float]:
        """Medians of `ours` and of `base`, ms, each over all its calls."""
        return statistics.median(self.ours_ms), statistics.median(self.base_ms)
