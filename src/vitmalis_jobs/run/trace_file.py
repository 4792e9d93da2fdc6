"""The file of the trace that a run plays, in the run's folder."""

from __future__ import annotations

from pathlib import Path

from vitmalis.network.traces import Trace, load_trace, save_mahimahi, save_trace

_RATES_FILE, _OPPORTUNITIES_FILE = "trace.csv", "trace.mahimahi"
TRACE_FILES = (_RATES_FILE, _OPPORTUNITIES_FILE)
"""Names of the two forms of the file; a run has one of them at most."""


def write_trace(trace: Trace, directory: Path) -> Path:
    """Write the trace as it is played, scaled and shifted, in the form that loses nothing."""
    if trace.opportunities_ms is None:
        path = directory / _RATES_FILE
        save_trace(trace, path)
    else:
        path = directory / _OPPORTUNITIES_FILE
        save_mahimahi(trace, path)
    return path


def read_trace(directory: Path) -> Trace | None:
    """The trace that a run played; None for a link without emulation and for older runs in virtual time.

    Round-trip times of a Mahimahi file are not in it.
    """
    return next((load_trace(path) for path in trace_files(directory)), None)


def trace_files(directory: Path) -> list[Path]:
    """The file of the trace in a run's folder, if there is one."""
    return [path for name in TRACE_FILES if (path := directory / name).is_file()]
