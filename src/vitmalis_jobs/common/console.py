"""Console output of jobs: headers, progress, warnings and tables; plain lines where there is no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vitmalis_jobs.common.comparison import comparison_table, metric_text
from vitmalis_jobs.common.machine_load import BUSY_NOTE, is_busy
from vitmalis_jobs.common.progress import progress_display

Step = Callable[..., None]
"""Called with the work done so far, all the work, and optionally a note."""

_F1_ROWS = (
    ("rendering F1", "rendering_f1", 1, "{:.3f}"),
    ("  after the first result", "rendering_f1_after_first_result", 1, "{:.3f}"),
    ("inference F1", "inference_f1", 1, "{:.3f}"),
)
_MASK_ROWS = (
    ("rendering F1 of masks", "rendering_mask_f1", 1, "{:.3f}"),
    ("  mean IoU of matched masks", "rendering_mask_iou", 1, "{:.3f}"),
    ("  mean boundary F1 of matched masks", "rendering_mask_boundary_f1", 1, "{:.3f}"),
)
_ROWS = (
    ("streaming AP", "streaming_ap", 1, "{:.3f}"),
    ("IDF1", "idf1", 1, "{:.3f}"),
    ("identity switches", "id_switches", 1, "{:.0f}"),
    ("E2E latency, median", "e2e_latency_s_median", 1e3, "{:.0f} ms"),
    ("E2E latency, p90", "e2e_latency_s_p90", 1e3, "{:.0f} ms"),
    ("  network, median", "network_s_median", 1e3, "{:.0f} ms"),
    ("  inference, median", "inference_s_median", 1e3, "{:.0f} ms"),
    ("offload interval, median", "offload_interval_frames_median", 1, "{:.0f} frames"),
    ("payload, median", "payload_kib_median", 1, "{:.0f} KiB"),
    ("offloads", "offloads", 1, "{:.0f}"),
    ("lost offloads", "lost_offloads", 1, "{:.0f}"),
    ("frames lost by the camera", "lost_frames", 1, "{:.0f}"),
)
_UNDELIVERED_ROWS = (("  as their images came too late", "undelivered_frames", 1, "{:.0f}"),)
_DEVICE_ROWS = (
    ("devices (above: means over them)", "devices", 1, "{:.0f}"),
    ("  rendering F1 of the worst", "worst_device_rendering_f1", 1, "{:.3f}"),
    ("  E2E latency of the worst, median", "worst_device_e2e_latency_s_median", 1e3, "{:.0f} ms"),
    ("  fairness of rendering F1 (Jain)", "jain_rendering_f1", 1, "{:.3f}"),
    ("  fairness of offloads (Jain)", "jain_offloads", 1, "{:.3f}"),
)


class Terminal:
    """Console output of a job, on standard output unless it is given another console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 160  # logs are read in whole lines
        self._progress = progress_display(self._console)

    @classmethod
    def on_stderr(cls) -> Terminal:
        """Console output on standard error, for jobs whose standard output is their result."""
        return cls(Console(stderr=True, highlight=False))

    def header(self, title: str, facts: Mapping[str, str], stand_ins: Mapping[str, str]) -> None:
        """Print what is run, and which parts of it are stand-ins."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for key, value in facts.items():
            grid.add_row(key, value)
        for position, (key, value) in enumerate(stand_ins.items()):
            grid.add_row("stand-ins" if position == 0 else "", Text(f"{key}: {value}", style="yellow"))
        if self._console.is_terminal:
            self._console.print(Panel(grid, title=f"[bold]{title}", title_align="left", border_style="cyan"))
            return
        self._line(title)
        for key, value in {**facts, **{f"stand-in {key}": value for key, value in stand_ins.items()}}.items():
            self._line(f"  {key}: {value}")

    def step(self, done: float, total: float, task: str = "", note: str = "") -> None:
        """Show that `done` of a task's `total` is done; a callback for functions that report progress."""
        self._progress.update(task, done, total, note)

    @contextmanager
    def progress(self, task: str) -> Iterator[Step]:
        """Show the progress of one task, which ends with the block."""
        self.step(0, 1, task)
        try:
            yield lambda done, total, note="": self.step(done, total, task, note)
        finally:
            self._progress.close()

    def warn(self, text: str) -> None:
        """Print something that limits what the result means."""
        self._console.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print something that needs no action."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Print some columns of rows."""
        table = Table(title=title, title_justify="left", box=None, header_style="bold")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for row in rows:
            table.add_row(*(_cell(row.get(column)) for column in columns))
        self._console.print(table)

    def result(self, metrics: Mapping[str, float], places: Mapping[str, str]) -> None:
        """Print the main metrics of a run, and where its files are."""
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", style="bold", no_wrap=True)
        masks = _MASK_ROWS if "rendering_mask_f1" in metrics else ()
        undelivered = _UNDELIVERED_ROWS if "undelivered_frames" in metrics else ()
        devices = _DEVICE_ROWS if "devices" in metrics else ()
        for label, key, factor, form in (*_F1_ROWS, *masks, *_ROWS, *undelivered, *devices):
            table.add_row(label, metric_text(metrics, key, factor, form))
        self._console.print(table)
        for key, value in places.items():
            self._console.print(Text.assemble((f"  {key}: ", "dim"), value), soft_wrap=True)

    def comparison(self, summaries: Sequence[Mapping[str, Any]], sweep: Path) -> None:
        """Print one row a run, named by the options in which the runs differ."""
        compared = comparison_table(summaries)
        table = Table(title="comparison", title_justify="left", box=None, padding=(0, 1), header_style="bold")
        for name in compared.names:
            table.add_column(f"\n{name}", no_wrap=True)
        for head in compared.numbers:
            table.add_column(head, justify="right", no_wrap=True)
        for row in compared.rows:
            table.add_row(*row)
        # In a narrow terminal its own line breaks lose less than cut columns would.
        width = Measurement.get(self._console, self._console.options.update(width=1000), table).maximum
        self._console.width = max(width, self._console.width)
        self._console.print(table, crop=False)
        self._errors(summaries)
        self._console.print(Text.assemble(("  runs: ", "dim"), str(sweep)), soft_wrap=True)
        self._busy_footnote(summaries)

    def tally(self, summaries: Sequence[Mapping[str, Any]], sweep: Path) -> None:
        """Print how many runs of a sweep ended how, and the errors; for sweeps too long for a table."""
        count = Counter("taken over" if summary["skipped"] else summary["status"].lower() for summary in summaries)
        self._line(f"{len(summaries)} runs: " + ", ".join(f"{number} {status}" for status, number in count.items()))
        self._errors(summaries)
        self._line(f"  runs: {sweep}")
        self._busy_footnote(summaries)

    def _errors(self, summaries: Sequence[Mapping[str, Any]]) -> None:
        """Print why runs failed, a line each."""
        for summary in summaries:
            if summary.get("error"):
                self._line(f"  {' '.join(summary['overrides'])}: {summary['error']}")

    def _busy_footnote(self, summaries: Sequence[Mapping[str, Any]]) -> None:
        """Print, as the last line, how many runs cannot be trusted, if there are any."""
        busy = sum(is_busy(summary["metrics"]) for summary in summaries)
        if busy:
            self.warn(f"{busy} of {len(summaries)} runs {BUSY_NOTE}")

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
