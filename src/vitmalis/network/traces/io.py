"""Trace files.

A file is either a rate series (CSV with the columns `time_s,uplink_mbps,rtt_ms`) or a Mahimahi packet-delivery file
(one whole millisecond a line: at that moment 1504 bytes can leave).
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from vitmalis.errors import UserError
from vitmalis.network.traces.opportunities import MAX_OPPORTUNITIES, Milliseconds
from vitmalis.network.traces.trace import COLUMNS, MAX_DURATION_S, Trace, check_column, median_step_s

MAX_ROWS = 1_000_000
"""Most rows of a CSV: more than a day in steps of 0.1 s."""
MAX_LINE_CHARS = 1000
MAX_CLOCK_S = 1e11
"""Latest time of a CSV's first row, some three thousand years after 1970. A later one counts milliseconds or less."""


def load_trace(path: str | Path, *, rtt_ms: float = 40.0) -> Trace:
    """Read a CSV (`time_s,uplink_mbps,rtt_ms`) or a Mahimahi packet-delivery file, recognised by suffix and content.

    CSV times may start at any value and are counted from the first row; so are milliseconds of a Mahimahi file that
    starts later than a week (clock time). In a CSV, a last row with a time only ends the period; without it the last
    row is as long as the median row.

    Args:
        path: the file, whose stem is the name of the trace.
        rtt_ms: round-trip time of a Mahimahi file, which contains none; a CSV has its own.

    Raises:
        UserError: the file is missing, empty or broken; names the row (from 1), column, value and what is expected.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = _lines(path.stem, file)
            first = next(lines, None)
            if first is None:
                raise UserError(f"trace '{path.stem}': {path} is empty; expected the columns {','.join(COLUMNS)}")
            lines = chain([first], lines)
            if path.suffix.lower() != ".csv" and "," not in first:
                return Trace.from_opportunities(path.stem, _parse_mahimahi(path.stem, lines), rtt_ms)
            return _parse_csv(path.stem, lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"trace file {path} cannot be read ({error}); give a CSV or Mahimahi trace") from error


def _lines(name: str, file: TextIO) -> Iterator[str]:
    """Lines that are not blank, one by one: a file may be a device or a pipe that never ends.

    Raises:
        UserError: there are too many, or one is too long for a trace.
    """
    for row in range(1, MAX_OPPORTUNITIES + 1):
        line = file.readline(MAX_LINE_CHARS + 1)
        if not line:
            return
        if len(line) > MAX_LINE_CHARS:
            raise UserError(f"trace '{name}': line {row} has more than {MAX_LINE_CHARS} characters; this is no trace")
        if line.strip():
            yield line
    raise UserError(f"trace '{name}' has more than {MAX_OPPORTUNITIES:.3g} lines; cut the file")


def save_trace(trace: Trace, path: Path) -> None:
    """Write a CSV that `load_trace` reads back exactly.

    Of a trace with exact opportunities only rates and round-trip times are kept; `save_mahimahi` keeps opportunities.
    """
    rows = [
        ",".join(repr(float(value)) for value in row) for row in zip(*(getattr(trace, c) for c in COLUMNS), strict=True)
    ]
    if trace.duration_s != float(trace.time_s[-1]) + median_step_s(trace.time_s):
        rows.append(f"{trace.duration_s!r},,")
    path.write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")


def save_mahimahi(trace: Trace, path: Path) -> None:
    """Write one period as a Mahimahi packet-delivery file, without the round-trip times.

    Mahimahi repeats a file after its last line, so an opportunity is added at the end of the period if none is there.
    """
    opportunities = trace.delivery_opportunities_ms()
    if opportunities[-1] < trace.period_ms:
        opportunities = np.append(opportunities, trace.period_ms)
    path.write_text("".join(f"{ms}\n" for ms in opportunities), encoding="ascii")


def _parse_csv(name: str, lines: Iterable[str]) -> Trace:
    columns = {column: array("d") for column in COLUMNS}
    end: tuple[int, str] | None = None  # row and time of a row with a time only
    for number, cells in enumerate(_csv_rows(name, lines), 1):
        if number > MAX_ROWS:
            raise UserError(f"trace '{name}' has more than {MAX_ROWS} rows; cut the file or make its steps longer")
        if end:
            raise _not_a_number(name, end[0], COLUMNS[1], "")
        if number > 1 and not any(text.strip() for text in cells[1:]):
            end = number, cells[0]
            continue
        for column, text in zip(COLUMNS, cells, strict=True):
            columns[column].append(_number(name, number, column, text))
    time_s, uplink_mbps, rtt_ms = (np.array(columns[column]) for column in COLUMNS)
    if not len(time_s):
        raise UserError(f"trace '{name}': the file has a header but no rows; give at least one row")
    origin_s = float(time_s[0])
    if origin_s > MAX_CLOCK_S:
        raise UserError(f"trace '{name}': row 1: time_s is {origin_s:g}; check the unit, it must be s")
    check_column(name, "time_s", time_s)
    duration_s = _number(name, end[0], "time_s", end[1]) - origin_s if end else 0.0
    return Trace(name, time_s - origin_s, uplink_mbps, rtt_ms, duration_s=duration_s)


def _csv_rows(name: str, lines: Iterable[str]) -> Iterator[list[str]]:
    """The cells of `COLUMNS` in each row of a CSV, empty where a row is too short."""
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        header = next(reader)
        for column in COLUMNS:
            if header.count(column) != 1:
                what = "there more than once" if column in header else "missing"
                found = ",".join(header)
                raise UserError(
                    f"trace '{name}': column {column} is {what} (found {found}); expected {','.join(COLUMNS)}"
                )
        places = [header.index(column) for column in COLUMNS]
        for number, row in enumerate(reader, 1):
            if any(text.strip() for text in row[len(header) :]):
                raise UserError(
                    f"trace '{name}': row {number} has more values than the header names; use points in numbers, as 8.5"
                )
            yield [row[place] if place < len(row) else "" for place in places]
    except csv.Error as error:
        raise UserError(f"trace '{name}': it is not a CSV ({error}); expected {','.join(COLUMNS)}") from error


def _parse_mahimahi(name: str, lines: Iterable[str]) -> Milliseconds:
    times = array("q")
    for row, line in enumerate(map(str.strip, lines), 1):
        if not (line.isascii() and line.isdigit() and len(line) < 16):
            raise UserError(
                f"trace '{name}': row {row}: {line[:40]!r} is not a whole millisecond; a Mahimahi file "
                f"has one a line, a CSV starts with {','.join(COLUMNS)}"
            )
        times.append(int(line))
    stamps = np.array(times)
    falling = np.flatnonzero(np.diff(stamps) < 0)
    if len(falling):
        row = int(falling[0]) + 2
        raise UserError(
            f"trace '{name}': row {row}: millisecond {stamps[row - 1]} comes after {stamps[row - 2]}; sort the file"
        )
    longest_ms = MAX_DURATION_S * 1000
    if stamps[0] > longest_ms:  # clock time, which is counted from the first row as in a CSV
        stamps -= stamps[0]
    if stamps[-1] == 0:
        raise UserError(
            f"trace '{name}': row {len(stamps)}: the last millisecond is 0; it must be above 0, it ends the period"
        )
    if stamps[-1] > longest_ms:
        raise UserError(
            f"trace '{name}': row {len(stamps)}: millisecond {stamps[-1]} is {stamps[-1] / 86_400_000:.0f} days after "
            f"the start, more than {MAX_DURATION_S // 86_400}; correct the row or cut the file"
        )
    return stamps


def _number(name: str, row: int, column: str, text: str) -> float:
    try:
        if "_" in text:  # which Python's `float` skips
            raise ValueError
        return float(text)
    except ValueError:
        raise _not_a_number(name, row, column, text) from None


def _not_a_number(name: str, row: int, column: str, text: str) -> UserError:
    found = text[:40].strip() or "empty"
    return UserError(f"trace '{name}': row {row}: {column} is not a number ({found}); correct or remove the row")
