"""Trace files.

A file is either a rate series (CSV with the columns `time_s,uplink_mbps,rtt_ms`) or a Mahimahi packet-delivery file
(one whole millisecond a line: at that moment 1504 bytes can leave).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vitmalis.errors import UserError
from vitmalis.network.traces.trace import COLUMNS, Milliseconds, Trace, check_column, median_step_s

MAX_PERIOD_MS = 7 * 86_400_000
"""Longest period of a Mahimahi file. A file that starts later holds clock time, such as milliseconds since 1970."""

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
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"trace file {path} cannot be read ({error}); give a CSV or Mahimahi trace") from error
    if not lines:
        raise UserError(f"trace '{path.stem}': {path} is empty; expected the columns {','.join(COLUMNS)}")
    if path.suffix.lower() != ".csv" and "," not in lines[0]:
        return Trace.from_opportunities(path.stem, _parse_mahimahi(path.stem, lines), rtt_ms)
    return _parse_csv(path.stem, lines)


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


def _parse_csv(name: str, lines: list[str]) -> Trace:
    rows = _csv_rows(name, lines)
    duration_s = 0.0
    if len(rows) > 1 and not any((rows[-1][c] or "").strip() for c in COLUMNS[1:]):
        duration_s = _number(name, len(rows), "time_s", rows.pop()["time_s"])
    values = {c: np.array([_number(name, i, c, row[c]) for i, row in enumerate(rows, 1)]) for c in COLUMNS}
    if not rows:
        raise UserError(f"trace '{name}': the file has a header but no rows; give at least one row")
    origin_s = values["time_s"][0]
    if origin_s > MAX_CLOCK_S:
        raise UserError(f"trace '{name}': row 1: time_s is {origin_s:g}; check the unit, it must be s")
    check_column(name, "time_s", values["time_s"])
    return Trace(
        name, values["time_s"] - origin_s, values["uplink_mbps"], values["rtt_ms"],
        duration_s=duration_s and duration_s - origin_s,
    )  # fmt: skip


def _csv_rows(name: str, lines: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV by the names in its header."""
    try:
        reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
        header, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise UserError(f"trace '{name}': it is not a CSV ({error}); expected {','.join(COLUMNS)}") from error
    for column in COLUMNS:
        if header.count(column) != 1:
            what = "there more than once" if column in header else "missing"
            found = ",".join(header)
            raise UserError(f"trace '{name}': column {column} is {what} (found {found}); expected {','.join(COLUMNS)}")
    for number, row in enumerate(rows, 1):
        if any(text.strip() for text in row.get(None, ())):
            raise UserError(
                f"trace '{name}': row {number} has more values than the header names; use points in numbers, as 8.5"
            )
    return rows


def _parse_mahimahi(name: str, lines: list[str]) -> Milliseconds:
    stamps = np.zeros(len(lines), np.int64)
    for row, line in enumerate(lines, 1):
        if not (line.strip().isascii() and line.strip().isdigit() and len(line.strip()) < 16):
            raise UserError(
                f"trace '{name}': row {row}: {line.strip()[:40]!r} is not a whole millisecond; a Mahimahi file "
                f"has one a line, a CSV starts with {','.join(COLUMNS)}"
            )
        stamps[row - 1] = int(line)
    falling = np.flatnonzero(np.diff(stamps) < 0)
    if len(falling):
        row = int(falling[0]) + 2
        raise UserError(
            f"trace '{name}': row {row}: millisecond {stamps[row - 1]} comes after {stamps[row - 2]}; sort the file"
        )
    if stamps[0] > MAX_PERIOD_MS:  # clock time, which is counted from the first row as in a CSV
        stamps -= stamps[0]
    if stamps[-1] == 0:
        raise UserError(
            f"trace '{name}': row {len(lines)}: the last millisecond is 0; it must be above 0, it ends the period"
        )
    if stamps[-1] > MAX_PERIOD_MS:
        raise UserError(
            f"trace '{name}': row {len(lines)}: millisecond {stamps[-1]} is {stamps[-1] / 86_400_000:.0f} days after "
            f"the start, more than {MAX_PERIOD_MS // 86_400_000}; correct the row or cut the file"
        )
    return stamps


def _number(name: str, row: int, column: str, text: str | None) -> float:
    try:
        if "_" in (text or ""):  # which Python's `float` skips
            raise ValueError
        return float(text or "")
    except ValueError:
        raise UserError(
            f"trace '{name}': row {row}: {column} is not a number ({text or 'empty'}); correct or remove the row"
        ) from None
