"""The result of a measurement: a table and a plot for the reader, and one JSON object for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import MachineLoad


def report_result(
    result: dict[str, Any],
    path: Path,
    terminal: Terminal,
    load: MachineLoad,
    *,
    title: str,
    columns: Sequence[str],
    draw: Callable[[dict[str, Any], Path], None],
) -> None:
    """Print the rows of a result as a table, draw them next to `path`, and emit the result as JSON.

    Args:
        result: what was measured, with its "rows".
        path: JSON file to store it in; the plot has the same name with the suffix `.png`.
        terminal: where the table goes.
        load: of the machine meanwhile.
        title: heading of the table.
        columns: keys of a row that the table shows.
        draw: draws the result into a file.
    """
    terminal.table(title, result["rows"], columns)
    plot = path.with_suffix(".png")
    draw(result, plot)
    terminal.note(f"plot: {plot}")
    emit(result, path, load)
