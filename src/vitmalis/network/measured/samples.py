"""Reading the published files, reduced to one value per second; nothing is scaled or interpolated.

`docs/traces.md` describes the kinds of files and why they are read like this. Times are in seconds, uplinks in Mbps,
round-trip times in ms.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

BINS_PER_S = 10
"""Samples per second in the uplink lists and nuttcp logs."""
STAMP_WINDOW = 121
"""Number of samples over which the time stamps of the LTE leg are smoothed, as they jump at log rollovers."""
_NUTTCP = re.compile(r"sec =\s+([\d.]+) Mbps\s+\d+ retrans")
_REPLY = re.compile(r"time=([\d.]+) ms")
_SIDE = {"atnt": "x", "verizon": "y"}


def read_runs(text: str) -> dict[int, list[Series]]:
    """Read the runs of a `.list` file by number: one series each, or four (5G time and uplink, LTE time and uplink)."""
    runs: dict[int, list[Series]] = {}
    number = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("Run"):
            number = int(line.split()[1])
            runs[number] = []
        elif line and not line.startswith("#") and number is not None:
            runs[number].append(np.array([float(value) for value in line.split(",") if value]))
    return runs


def means(samples: Series, count: int) -> Series:
    """Means over groups of `count` consecutive samples; an incomplete group at the end is dropped."""
    whole = len(samples) // count
    # Added one after another, unlike in numpy's mean: the order decides how half-way cases are rounded.
    return np.add.accumulate(samples[: whole * count].reshape(whole, count), axis=1)[:, -1] / count


def nuttcp_mbps(text: str) -> Series:
    """Mbps per second of a nuttcp receiver's log, which has a line every 0.1 s."""
    return means(np.array([float(value) for value in _NUTTCP.findall(text)]), BINS_PER_S)


def ping_ms(text: str) -> Series:
    """Round-trip time per second of a log of pings sent every 0.2 s, without lost pings."""
    return means(np.array([float(value) for value in _REPLY.findall(text)]), 5)


def two_legs_mbps(run: Sequence[Series], start_s: float, end_s: float) -> Series:
    """Mbps per second of a phone on both 5G and LTE: the sum of both legs, by the run's clock.

    Args:
        run: 5G time and uplink, LTE time and uplink.
        start_s, end_s: range on the run's clock.

    Returns:
        Means over the 0.1 s bins in which a leg has a record; a leg without one counts as 0 there.
    """
    nr_s, nr_mbps, lte_s, lte_mbps = run
    lte_s, lte_mbps = _without_repeats(lte_s, lte_mbps)
    bins: dict[int, float] = defaultdict(float)
    for time_s, mbps in ((nr_s, nr_mbps), (_smoothed(lte_s), lte_mbps)):
        own: dict[int, list[float]] = defaultdict(list)
        # Some smoothed times lie half-way between bins: multiplying by ten, not dividing by 0.1, decides their bin.
        for index, value in zip(np.round(time_s * BINS_PER_S).astype(int).tolist(), mbps.tolist(), strict=True):
            own[index].append(value)
        for index, values in own.items():
            bins[index] += float(np.mean(values))
    seconds = []
    for second in range(round(end_s - start_s)):
        first = round((start_s + second) * BINS_PER_S)
        seconds.append(np.mean([bins[index] for index in range(first, first + BINS_PER_S) if index in bins]))
    return np.array(seconds)


def _without_repeats(time_s: Series, mbps: Series) -> tuple[Series, Series]:
    """Drop samples that equal an earlier one in time and value."""
    first = dict[tuple[float, float], int]()
    for index, sample in enumerate(zip(time_s.tolist(), mbps.tolist(), strict=True)):
        first.setdefault(sample, index)
    kept = list(first.values())
    return time_s[kept], mbps[kept]


def _smoothed(time_s: Series) -> Series:
    """Times 0.1 s apart by index, plus the running median of the offsets of the time stamps from them."""
    ideal_s = 0.1 * np.arange(len(time_s))
    late_s, half = time_s - ideal_s, STAMP_WINDOW // 2
    medians = [np.median(late_s[max(0, index - half) : index + half + 1]) for index in range(len(late_s))]
    return ideal_s + np.array(medians)


def driving_mbps(lines: Iterable[str], operator: str, start_s: float, end_s: float) -> Series:
    """Mbps per second of one operator's uplink from a table of two operators, without rows marked as a handover.

    A value holds for the time since the sample before it; a second is the mean weighted by time.

    Args:
        lines: lines of the CSV file.
        operator: atnt or verizon.
        start_s, end_s: range, seconds since 1970.
    """
    side = _SIDE[operator]
    samples = {
        float(row[f"TIME_STAMP_{side}"]): float(row[f"ULtput_{side}"])
        for row in csv.DictReader(lines)
        if row[f"ULtput_{side}"] and not (row["handover_status_x"] or row["handover_status_y"])
    }
    time_s = np.array(sorted(samples))
    mbps = np.array([samples[time] for time in time_s.tolist()])
    return np.array([_mean_over_second(time_s, mbps, start_s + second) for second in range(round(end_s - start_s))])


def _mean_over_second(time_s: Series, mbps: Series, start_s: float) -> float:
    """Mean over one second of values that each hold since the sample before; NaN without samples."""
    now_s, end_s, weighted, covered_s = start_s, start_s + 1.0, 0.0, 0.0
    index = int(np.searchsorted(time_s, start_s + 1e-6, "right"))
    while now_s < end_s - 1e-6 and index < len(time_s):
        until_s = min(float(time_s[index]), end_s)
        weighted += float(mbps[index]) * (until_s - now_s)
        covered_s += until_s - now_s
        now_s, index = until_s, index + 1
    return weighted / covered_s if covered_s else float("nan")
