"""An uplink trace: rate and round-trip time over a period, and Mahimahi's delivery opportunities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.network.traces.opportunities import (
    OPPORTUNITY_BYTES,
    ListedOpportunities,
    Milliseconds,
    Opportunities,
    RateOpportunities,
    check_opportunities,
)

CONSTANT_PERIOD_S = 12.032
"""Period of a constant trace, with a whole number of opportunities for every rate in steps of 0.001 Mbps."""
EDGE_S = 1e-6
"""Times that are closer count as equal, so that cutting a trace leaves no sliver of a row."""
MAX_UPLINK_MBPS = 2_000.0
MAX_RTT_MS = 60_000.0
MAX_DURATION_S = 7 * 86_400
"""Longest period."""
COLUMNS = ("time_s", "uplink_mbps", "rtt_ms")

Series = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trace:
    """Uplink rate and round-trip time over one period, which repeats after `duration_s`.

    Attributes:
        name: name in errors, tags and plots.
        time_s: float64 (N,), start of each row, the first at 0; a row holds until the next one begins.
        uplink_mbps: float64 (N,), capacity of the uplink, at least 0.
        rtt_ms: float64 (N,), propagation delay of both directions together.
        opportunities_ms: int64 (K,), Mahimahi's exact delivery opportunities, the last at the end of the period;
            `uplink_mbps` then summarises them. None if only the rate is known.
        duration_s: length of the period; 0 gives the last row the length of the median row (1 s if it is the only one).

    Raises:
        UserError: a value that no link can have; the message names the trace, the row (from 1) and the column.
    """

    name: str
    time_s: Series
    uplink_mbps: Series
    rtt_ms: Series
    opportunities_ms: Milliseconds | None = None
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        for column in COLUMNS:
            _freeze(self, column, np.array(getattr(self, column), np.float64))
        _check_rows(self)
        _freeze(self, "duration_s", self.duration_s or float(self.time_s[-1]) + median_step_s(self.time_s))
        if self.duration_s <= self.time_s[-1]:
            raise UserError(
                f"trace '{self.name}': duration_s is {self.duration_s:g} but its last row starts at "
                f"{self.time_s[-1]:g}; the end must come after the last row"
            )
        if self.duration_s > MAX_DURATION_S:
            raise UserError(
                f"trace '{self.name}' lasts {self.duration_s / 86_400:.3g} days, more than "
                f"{MAX_DURATION_S // 86_400}; cut the file, or correct the time of its last row"
            )
        if self.opportunities_ms is not None:
            _freeze(self, "opportunities_ms", np.array(self.opportunities_ms, np.int64))

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def period_ms(self) -> int:
        """Length of one period in whole milliseconds, by which each repetition is shifted."""
        return max(1, round(self.duration_s * 1000))

    def mean_mbps(self, seconds: float | None = None) -> float:
        """Rate averaged over the first seconds, Mbps; None for one period."""
        return float(np.average(self.uplink_mbps, weights=self._seconds_of_rows(seconds)))

    def mean_rtt_ms(self, seconds: float | None = None) -> float:
        """Round-trip time averaged over the first seconds, ms; None for one period."""
        return float(np.average(self.rtt_ms, weights=self._seconds_of_rows(seconds)))

    def row_at(self, time_s: float) -> int:
        """Index of the row that holds at `time_s` seconds on the trace's clock (any time >= 0; wraps)."""
        return int(np.searchsorted(self.time_s, time_s % self.duration_s, side="right")) - 1

    def uplink_mbps_at(self, time_s: float) -> float:
        """Rate at `time_s` seconds on the trace's clock, Mbps."""
        return float(self.uplink_mbps[self.row_at(time_s)])

    def rtt_ms_at(self, time_s: float) -> float:
        """Round-trip time at `time_s` seconds on the trace's clock, ms."""
        return float(self.rtt_ms[self.row_at(time_s)])

    def opportunities(self) -> Opportunities:
        """Delivery opportunities of one period, 1504 bytes each, none earlier than millisecond 1 of a rate.

        Raises:
            UserError: the rate is too low for a single opportunity in the whole period.
        """
        if self.opportunities_ms is not None:
            return ListedOpportunities(self.opportunities_ms)
        bytes_per_ms = self.uplink_mbps * 125.0
        carried = np.concatenate([[0.0], np.cumsum(bytes_per_ms * self._row_lengths_s() * 1000.0)])
        computed = RateOpportunities(self.time_s * 1000.0, bytes_per_ms, carried, self.period_ms)
        if not len(computed):
            raise UserError(
                f"trace '{self.name}' carries {carried[-1]:.0f} bytes in {self.duration_s:g} s, less than one "
                f"packet of {OPPORTUNITY_BYTES}; raise its uplink_mbps or trace.capacity_scale"
            )
        return computed

    def delivery_opportunities_ms(self) -> Milliseconds:
        """List of the delivery opportunities of one period: int64 (K,), non-decreasing milliseconds 1..period_ms.

        Raises:
            UserError: there is none, or there are too many for a list.
        """
        opportunities = self.opportunities()
        check_opportunities(self.name, len(opportunities))
        return opportunities.times_ms(np.arange(len(opportunities)))

    def scaled(self, capacity_scale: float) -> Trace:
        """The trace with its capacity multiplied by a factor and unchanged round-trip times.

        Raises:
            UserError: the factor is not a positive finite number, or a rate becomes one that no link can have.
        """
        if not (np.isfinite(capacity_scale) and capacity_scale > 0):
            raise UserError(f"trace '{self.name}': capacity_scale is {capacity_scale}; give a number above 0, like 1.0")
        if capacity_scale == 1.0:
            return self
        if self.opportunities_ms is None:
            return replace(self, uplink_mbps=self.uplink_mbps * capacity_scale)
        # Counted back from the last one, which marks the end of the period and must stay.
        total = len(self.opportunities_ms)
        kept = max(1, int(min(total * capacity_scale, 1e15) + 1e-9))
        check_opportunities(self.name, kept)
        index = total - 1 - (np.arange(kept)[::-1] / capacity_scale + 1e-9).astype(np.int64)
        return Trace.from_opportunities(self.name, self.opportunities_ms[np.maximum(index, 0)], float(self.rtt_ms[0]))

    def with_rtt_scaled(self, rtt_scale: float) -> Trace:
        """The trace with its round-trip times multiplied by a factor.

        Raises:
            UserError: the factor is not a finite number from 0 on.
        """
        if not (np.isfinite(rtt_scale) and rtt_scale >= 0):
            raise UserError(f"trace '{self.name}': rtt_scale is {rtt_scale}; give a number from 0 on, like 1.0")
        return self if rtt_scale == 1.0 else replace(self, rtt_ms=self.rtt_ms * rtt_scale)

    def starting_at(self, start_s: float) -> Trace:
        """The trace rotated so that its clock is 0 where it was `start_s`; the part before that follows at the end.

        A trace with exact opportunities starts right after the last opportunity up to `start_s`, so that its period
        still ends with an opportunity.

        Raises:
            UserError: `start_s` is negative or not finite.
        """
        if not (np.isfinite(start_s) and start_s >= 0):
            raise UserError(f"trace '{self.name}': start_s is {start_s}; give seconds from 0 on, like 30")
        start_s %= self.duration_s
        if min(start_s, self.duration_s - start_s) < EDGE_S:
            return self
        if self.opportunities_ms is not None:
            period_ms = self.period_ms
            before = int(np.searchsorted(self.opportunities_ms, start_s * 1000.0, side="right"))
            pivot_ms = int(self.opportunities_ms[before - 1]) if before else 0
            later, earlier = self.opportunities_ms[before:], self.opportunities_ms[:before] + period_ms
            return Trace.from_opportunities(
                self.name, np.concatenate([later, earlier]) - pivot_ms, float(self.rtt_ms[0])
            )
        first = self.row_at(start_s + EDGE_S)
        order = np.roll(np.arange(len(self)), -first)
        time_s = (self.time_s[order] - start_s) % self.duration_s
        time_s[0] = 0.0
        if self.time_s[first] < start_s - EDGE_S:  # the row is cut: its first part moves to the end
            order = np.append(order, first)
            time_s = np.append(time_s, self.time_s[first] - start_s + self.duration_s)
        return replace(
            self,
            time_s=time_s,
            uplink_mbps=self.uplink_mbps[order],
            rtt_ms=self.rtt_ms[order],
            duration_s=self.duration_s,
        )

    @classmethod
    def from_opportunities(cls, name: str, opportunities_ms: Milliseconds, rtt_ms: float) -> Trace:
        """A trace with exact opportunities (int64 (K,), the last above 0), whose rates summarise rows of about 1 s.

        A period under 2 s is repeated, so that it has at least two rows; the link is the same.
        """
        period_ms = int(opportunities_ms[-1])
        if period_ms < 2000:
            repeats = -(-2000 // period_ms)
            check_opportunities(name, repeats * len(opportunities_ms))
            opportunities_ms = (np.arange(repeats)[:, None] * period_ms + opportunities_ms).ravel()
            period_ms *= repeats
        edges_ms = np.linspace(0.0, period_ms, round(period_ms / 1000) + 1)
        counts = np.diff(np.searchsorted(opportunities_ms, edges_ms, side="right"), prepend=0)
        counts[1] += counts[0]  # millisecond 0 belongs to the first row
        mbps = counts[1:] * OPPORTUNITY_BYTES * 0.008 / np.diff(edges_ms)
        return cls(name, edges_ms[:-1] / 1000, mbps, np.full(len(mbps), rtt_ms), opportunities_ms, period_ms / 1000)

    def _row_lengths_s(self) -> Series:
        return np.diff(self.time_s, append=self.duration_s)

    def _seconds_of_rows(self, seconds: float | None) -> Series:
        """For how long each row holds during the first seconds, s; None for one period."""
        lengths_s = self._row_lengths_s()
        periods, rest_s = divmod(self.duration_s if seconds is None else seconds, self.duration_s)
        return periods * lengths_s + np.clip(rest_s - self.time_s, 0.0, lengths_s)


def constant_trace(mbps: float, rtt_ms: float) -> Trace:
    """A trace of constant rate `mbps` and round-trip time `rtt_ms`.

    Raises:
        UserError: a value that no link can have.
    """
    name = f"constant {mbps:g} Mbps"
    return Trace(name, np.zeros(1), np.array([mbps]), np.array([rtt_ms]), duration_s=CONSTANT_PERIOD_S)


def _check_rows(trace: Trace) -> None:
    if not len(trace.time_s) == len(trace.uplink_mbps) == len(trace.rtt_ms) > 0:
        lengths = ", ".join(f"{column} {len(getattr(trace, column))}" for column in COLUMNS)
        raise UserError(f"trace '{trace.name}' needs rows, as many values in each column (has {lengths})")
    for column in COLUMNS:
        check_column(trace.name, column, getattr(trace, column))
    if trace.time_s[0] != 0:
        raise UserError(
            f"trace '{trace.name}': row 1: time_s must be 0 ({trace.time_s[0]:g}); count from the first row"
        )
    if not trace.uplink_mbps.any():
        raise UserError(f"trace '{trace.name}': uplink_mbps is 0 in all {len(trace)} rows; nothing could ever be sent")


def check_column(name: str, column: str, values: Series) -> None:
    """Check that a column has only values that a link can have.

    Raises:
        UserError: names the trace, the first wrong row (from 1), the column, the value and the way out.
    """
    checks = [(~np.isfinite(values), "is not a finite number", "correct or remove the row")]
    if column == "time_s":
        checks.append(
            (
                np.diff(values, prepend=-np.inf) <= 0,
                "does not come after the row before",
                "sort the rows, one for each time",
            )
        )
    else:
        limit = MAX_UPLINK_MBPS if column == "uplink_mbps" else MAX_RTT_MS
        unit = column.rsplit("_", 1)[-1]
        checks.append((values < 0, "is negative", "give 0 for an outage" if unit == "mbps" else "give 0 or more"))
        checks.append((values > limit, f"is above {limit:g}", f"check the unit, it must be {unit}"))
    for wrong, what, way_out in checks:
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(f"trace '{name}': row {row + 1}: {column} {what} ({values[row]:g}); {way_out}")


def median_step_s(time_s: Series) -> float:
    """Median length of the rows of a trace, s, and 1 s for a single row: the default length of the last row."""
    return float(np.median(np.diff(time_s))) if len(time_s) > 1 else 1.0


def _freeze(trace: Trace, field: str, value: Series | Milliseconds | float) -> None:
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    object.__setattr__(trace, field, value)
