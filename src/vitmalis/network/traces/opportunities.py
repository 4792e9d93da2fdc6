"""Delivery opportunities of a trace: moments, in whole milliseconds, at which 1504 bytes can leave (Mahimahi).

A day at 1 Gbps has seven billion of them, so those of a rate are computed when they are asked for.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError

OPPORTUNITY_BYTES = 1504
"""Mahimahi's delivery opportunity: a full Ethernet packet and its 4-byte TUN header."""
MAX_OPPORTUNITIES = 50_000_000
"""Longest list of delivery opportunities. Memory must not follow numbers in a file."""
_ROUNDING = 1e-6
"""Rounding must not shift a target that is reached exactly on a millisecond to the next one."""

Milliseconds = NDArray[np.int64]


class Opportunities(Protocol):
    """The delivery opportunities of one period, by their numbers from 0: non-decreasing, the last above 0."""

    def __len__(self) -> int:
        """Number of opportunities in the period, at least 1."""

    def time_ms(self, number: int) -> int:
        """Millisecond of one of them."""

    def times_ms(self, numbers: NDArray[np.int64]) -> Milliseconds:
        """Milliseconds of several, int64 (N,)."""

    def passed(self, time_ms: int) -> int:
        """Number of opportunities up to and including a millisecond."""


class ListedOpportunities:
    """Opportunities that are known one by one.

    Args:
        times_ms: non-decreasing integers (N,), milliseconds from the origin of the trace, N >= 1, the last > 0.

    Raises:
        UserError: they are empty, negative, decreasing or all at 0.
    """

    def __init__(self, times_ms: ArrayLike) -> None:
        times = np.ascontiguousarray(times_ms, np.int64)
        if times.ndim != 1 or times.size == 0:
            raise UserError("the trace has no delivery opportunity: give the link a rate above 0 somewhere")
        if times[0] < 0 or np.any(np.diff(times) < 0):
            raise UserError("delivery opportunities must be non-decreasing milliseconds from 0: sort the trace")
        if times[-1] == 0:
            raise UserError("the last delivery opportunity is at 0 ms: it must be later, it is the length of the trace")
        self._times = times

    def __len__(self) -> int:
        return len(self._times)

    def time_ms(self, number: int) -> int:
        """Millisecond of one of them."""
        return int(self._times[number])

    def times_ms(self, numbers: NDArray[np.int64]) -> Milliseconds:
        """Milliseconds of several, int64 (N,)."""
        return self._times[numbers]

    def passed(self, time_ms: int) -> int:
        """Number of opportunities up to and including a millisecond."""
        return int(self._times.searchsorted(time_ms, "right"))


class RateOpportunities:
    """Opportunities of a rate: number k is at the first millisecond at which k + 1 times 1504 bytes have been carried.

    The remainder at the end of the period is lost.

    Args:
        starts_ms: float64 (N,), where each row begins, the first at 0.
        bytes_per_ms: float64 (N,), rate of each row.
        carried: float64 (N + 1,), bytes carried up to the start of each row and up to the end of the last.
        period_ms: length of the period.
    """

    def __init__(
        self, starts_ms: NDArray[np.float64], bytes_per_ms: NDArray[np.float64], carried: NDArray[np.float64],
        period_ms: int,
    ) -> None:  # fmt: skip
        self._starts, self._rates, self._carried, self._period_ms = starts_ms, bytes_per_ms, carried, period_ms
        self._count = int(carried[-1] / OPPORTUNITY_BYTES + _ROUNDING)
        self._last_row = int(np.flatnonzero(bytes_per_ms)[-1])
        # The same numbers as Python's own, of which single ones are looked up faster.
        self._rows = (starts_ms.tolist(), bytes_per_ms.tolist(), carried.tolist())

    def __len__(self) -> int:
        return self._count

    def time_ms(self, number: int) -> int:
        """Millisecond of one of them."""
        starts, rates, carried = self._rows
        target = (number + 1) * float(OPPORTUNITY_BYTES)
        row = min(bisect_left(carried, target - _ROUNDING, lo=1) - 1, self._last_row)
        reached_ms = starts[row] + (target - carried[row]) / rates[row]
        return max(math.ceil(min(reached_ms, self._period_ms) - _ROUNDING), 1)

    def times_ms(self, numbers: NDArray[np.int64]) -> Milliseconds:
        """Milliseconds of several, int64 (N,)."""
        targets = (numbers + 1) * float(OPPORTUNITY_BYTES)
        # The first row that ends at or after the target: never one of rate 0, so the division is safe.
        row = np.minimum(np.searchsorted(self._carried[1:], targets - _ROUNDING), self._last_row)
        reached_ms = self._starts[row] + (targets - self._carried[row]) / self._rates[row]
        return np.maximum(np.ceil(np.minimum(reached_ms, self._period_ms) - _ROUNDING).astype(np.int64), 1)

    def passed(self, time_ms: int) -> int:
        """Number of opportunities up to and including a millisecond."""
        starts, rates, carried = self._rows
        row = bisect_right(starts, time_ms) - 1
        bytes_carried = min(carried[row] + rates[row] * (time_ms - starts[row]), carried[row + 1])
        number = min(int(bytes_carried / OPPORTUNITY_BYTES), self._count)
        # Rounding may have put it one too far on either side.
        while number and self.time_ms(number - 1) > time_ms:
            number -= 1
        while number < self._count and self.time_ms(number) <= time_ms:
            number += 1
        return number


def check_opportunities(name: str, count: int) -> None:
    """Check that a list of a period's delivery opportunities fits in memory.

    Raises:
        UserError: there are more than `MAX_OPPORTUNITIES`.
    """
    if count > MAX_OPPORTUNITIES:
        raise UserError(
            f"trace '{name}' has {count:.3g} packets of {OPPORTUNITY_BYTES} bytes in a period, more than "
            f"{MAX_OPPORTUNITIES:.3g}: shorten it, or lower its uplink_mbps or trace.capacity_scale"
        )
