"""How long a call takes: medians, and ratios of calls that run directly beside each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Run = Callable[[], object]


def duration_ms(run: Run) -> float:
    """Duration of one call, ms."""
    start_s = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start_s)


def median_ms(run: Run, repeats: int) -> float:
    """Median duration of `repeats` calls after a first one that warms up, ms."""
    run()
    return round(statistics.median(duration_ms(run) for _ in range(repeats)), 2)


@dataclass(slots=True)
class Pairs:
    """Durations of two calls, ms; those of one index ran directly beside each other, so what slows one slows both."""

    ours_ms: list[float] = field(default_factory=list)
    base_ms: list[float] = field(default_factory=list)

    def add(self, ours: Run, base: Run) -> None:
        """Run both once; which of them is first alternates."""
        first = len(self.ours_ms) % 2 == 0
        runs = ((ours, self.ours_ms), (base, self.base_ms))
        for run, durations_ms in runs if first else runs[::-1]:
            durations_ms.append(duration_ms(run))

    @property
    def ratio(self) -> float:
        """Median over pairs of ours / base."""
        return statistics.median(ours / base for ours, base in zip(self.ours_ms, self.base_ms, strict=True))

    @property
    def median_ms(self) -> tuple[float, float]:
        """Median of ours and of base, each for itself."""
        return statistics.median(self.ours_ms), statistics.median(self.base_ms)
