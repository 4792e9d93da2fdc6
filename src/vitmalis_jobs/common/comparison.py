"""The table that compares the runs of a sweep: a row for each run, named by the options in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitmalis_jobs.common.machine_load import busy_marks

_NUMBERS = (
    ("F1\nrender", "rendering_f1", 1, "{:.3f}"),
    ("\ninfer", "inference_f1", 1, "{:.3f}"),
    ("E2E ms\nmedian", "e2e_latency_s_median", 1e3, "{:.0f}"),
    ("\np90", "e2e_latency_s_p90", 1e3, "{:.0f}"),
    ("\nnetwork", "network_s_median", 1e3, "{:.0f}"),
    ("\ninference", "inference_s_median", 1e3, "{:.0f}"),
    ("interval\nframes", "offload_interval_frames_median", 1, "{:.0f}"),
    ("lost\noffloads", "lost_offloads", 1, "{:.0f}"),
    ("\nframes", "lost_frames", 1, "{:.0f}"),
)


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """Cells of the table as text.

    Attributes:
        names: heads of the columns that name a run: options in which the runs differ.
        numbers: heads of the columns with numbers, on two lines each.
        rows: cells of each run, names first.
    """

    names: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[str]]


def comparison_table(summaries: Sequence[Mapping[str, Any]]) -> ComparisonTable:
    """Compare runs by their summaries; one that did not finish has its status in place of numbers."""
    columns = _differing([summary["overrides"] for summary in summaries])
    marks = busy_marks([summary["metrics"] for summary in summaries])
    rows = []
    for number, (summary, mark) in enumerate(zip(summaries, marks, strict=True)):
        chosen = dict(override.split("=", 1) for override in summary["overrides"] if "=" in override)
        names = [chosen.get(column, "") for column in columns] or [str(number)]
        rows.append([*names, *_numbers(summary, mark)])
    return ComparisonTable(columns or ["run"], [head for head, *_ in _NUMBERS], rows)


def _numbers(summary: Mapping[str, Any], mark: str) -> list[str]:
    if summary["status"] != "FINISHED":
        return [summary["status"].lower(), *[""] * (len(_NUMBERS) - 1)]
    first, *others = (metric_text(summary["metrics"], key, factor, form) for _, key, factor, form in _NUMBERS)
    return [first + mark, *others]


def metric_text(metrics: Mapping[str, float], key: str, factor: float, form: str) -> str:
    """A metric, times a factor, in a format; `-` for one that there is not."""
    return form.format(metrics[key] * factor) if key in metrics else "-"


def _differing(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Options that do not have the same value in every run."""
    keys = list(dict.fromkeys(o.split("=", 1)[0] for run in overrides for o in run if "=" in o))
    values = {key: {next((o for o in run if o.startswith(f"{key}=")), "") for run in overrides} for key in keys}
    return [key for key in keys if len(values[key]) > 1]
