"""The result of a measurement: a table and a plot for the reader, and one JSON object for programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitmalis.command_line import CommandLine
from vitmalis_jobs.common.cli import option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter, MachineLoad


def measuring_job(
    parser: Callable[[], CommandLine],
    measure: Callable[[argparse.Namespace, Terminal], dict[str, Any]],
    *,
    title: str,
    columns: Sequence[str],
    draw: Callable[[dict[str, Any], Path], None],
) -> Callable[..., int]:
    """Make the `main` of a job that measures, and reports its result as `report_result` does.

    Args:
        parser: makes the parser of its options, among them `output`, the file of the result.
        measure: does the work, and shows its progress.
        title: heading of the table, with keys of the result in braces.
        columns, draw: as of `report_result`.
    """

    def profile(options: argparse.Namespace) -> None:
        terminal, meter = Terminal.on_stderr(), LoadMeter()
        result = measure(options, terminal)
        shown = title.format_map(result)
        report_result(result, options.output, terminal, meter.load(), title=shown, columns=columns, draw=draw)

    return option_job(parser, profile)


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
