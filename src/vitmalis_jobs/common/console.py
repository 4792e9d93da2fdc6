"""What a person sees while a run goes on; a few plain lines where nobody watches (no terminal, CI)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Step = Callable[..., None]
"""Called with what is done, what there is in all, and optionally a note."""

_ROWS = (
    ("rendering F1", "rendering_f1", 1, "{:.3f}"),
    ("inference F1", "inference_f1", 1, "{:.3f}"),
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
_COMPARED = (
    ("F1\nrender", "rendering_f1", 1, "{:.3f}"),
    ("\ninfer", "inference_f1", 1, "{:.3f}"),
    ("E2E ms\nmedian", "e2e_latency_s_median", 1e3, "{:.0f}"),
    ("\np90", "e2e_latency_s_p90", 1e3, "{:.0f}"),
    ("\nnetwork", "network_s_median", 1e3, "{:.0f}"),
    ("\ninference", "inference_s_median", 1e3, "{:.0f}"),
    ("interval\nframes", "offload_interval_frames_median", 1, "{:.0f}"),
    ("offloads\nlost", "lost_offloads", 1, "{:.0f}"),
)


class Terminal:
    """Writes to standard output.

    Args:
        console: another console, for tests.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 160  # whoever reads a log wants whole lines

    @classmethod
    def on_stderr(cls) -> Terminal:
        """For jobs whose standard output is their result."""
        return cls(Console(stderr=True, highlight=False))

    def header(self, title: str, facts: Mapping[str, str], stand_ins: Mapping[str, str]) -> None:
        """What is run, and what in it is not the real thing."""
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

    @contextmanager
    def progress(self, what: str) -> Iterator[Step]:
        """A bar that lives while its block runs; without a terminal, a line at its start."""
        if not self._console.is_terminal:
            self._line(f"{what} ...")
            yield lambda *_: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        # Four refreshes a second: drawing must not take the processor from what is measured.
        with Progress(*columns, console=self._console, refresh_per_second=4) as bars:
            task = bars.add_task(what, total=1, note="")

            def step(done: float, total: float, note: str = "") -> None:
                bars.update(task, completed=done, total=total, note=note)

            yield step

    def warn(self, text: str) -> None:
        """Something a person should know about the result."""
        self._console.print(Text(f"warning: {text}", style="yellow"))

    def note(self, text: str) -> None:
        """Something that happened and needs no care."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def result(self, metrics: Mapping[str, float], places: Mapping[str, str]) -> None:
        """The numbers of a run, and where to look further."""
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", style="bold", no_wrap=True)
        for label, key, factor, form in _ROWS:
            table.add_row(label, _shown(metrics, key, factor, form))
        self._console.print(table)
        for key, value in places.items():
            self._console.print(Text.assemble((f"  {key}: ", "dim"), value), soft_wrap=True)

    def comparison(self, summaries: Sequence[Mapping[str, Any]], sweep: Path) -> None:
        """One row a run; told apart by what differs between them."""
        table = Table(title="comparison", title_justify="left", box=None, padding=(0, 1), header_style="bold")
        columns = _differing([summary["overrides"] for summary in summaries])
        for column in columns or ["run"]:
            table.add_column(f"\n{column}", no_wrap=True)
        for label, *_ in _COMPARED:
            table.add_column(label, justify="right", no_wrap=True)
        for number, summary in enumerate(summaries):
            chosen = dict(override.split("=", 1) for override in summary["overrides"] if "=" in override)
            names = [chosen.get(column, "") for column in columns] or [str(number)]
            finished = summary["status"] == "FINISHED"
            numbers = [_shown(summary["metrics"], key, factor, form) for _, key, factor, form in _COMPARED]
            table.add_row(*names, *(numbers if finished else [summary["status"].lower(), *[""] * (len(numbers) - 1)]))
        # In a narrow terminal its own line breaks lose less than cut columns would.
        width = Measurement.get(self._console, self._console.options.update(width=1000), table).maximum
        self._console.width = max(width, self._console.width)
        self._console.print(table, crop=False)
        for summary in summaries:
            if summary.get("error"):
                self._line(f"  {' '.join(summary['overrides'])}: {summary['error']}")
        self._console.print(Text.assemble(("  runs: ", "dim"), str(sweep)), soft_wrap=True)

    def tally(self, summaries: Sequence[Mapping[str, Any]], sweep: Path) -> None:
        """Counts of a sweep too long for a table, and what failed."""
        count = Counter("taken over" if summary["skipped"] else summary["status"].lower() for summary in summaries)
        self._line(f"{len(summaries)} runs: " + ", ".join(f"{number} {status}" for status, number in count.items()))
        for summary in summaries:
            if summary.get("error"):
                self._line(f"  {' '.join(summary['overrides'])}: {summary['error']}")
        self._line(f"  runs: {sweep}")

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _shown(metrics: Mapping[str, float], key: str, factor: float, form: str) -> str:
    return form.format(metrics[key] * factor) if key in metrics else "-"


def _differing(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Options that do not have the same value in every run."""
    keys = list(dict.fromkeys(o.split("=", 1)[0] for run in overrides for o in run if "=" in o))
    values = {key: {next((o for o in run if o.startswith(f"{key}=")), "") for run in overrides} for key in keys}
    return [key for key in keys if len(values[key]) > 1]
