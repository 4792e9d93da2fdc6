"""Errors of estimates on each clip that was held out, and their spread over clips.

The table of held-out clips scores all clips together. How far a new clip may lie from that is seen in the clips one by
one, each of which is evaluated after training on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vitmalis_jobs.training.estimation.error_tables import KIND_TITLES, SHORT, UNITS, TableRow
from vitmalis_jobs.training.estimation.splits import SplitEvaluation

TITLE = "Held-out clips, one by one"
METRICS = {"rmse": "RMSE", "r2": "R2", "bias": "Bias", "regret": "Regret"}


@dataclass(frozen=True, slots=True)
class ClipRow:
    """Errors of one kind of estimator on one clip that it was not trained on.

    Attributes:
        clip: that was held out.
        frames: number of its frames.
        errors: as in the table of all clips together.
    """

    clip: str
    frames: int
    errors: TableRow


def rows_by_clip(
    evaluation: SplitEvaluation, rows: Callable[[SplitEvaluation], Iterable[TableRow]]
) -> Iterator[ClipRow]:
    """The rows of each clip of an evaluation.

    Args:
        evaluation: of held-out clips.
        rows: makes the rows of a table from estimates.
    """
    clips = evaluation.rows.clips
    for clip in np.unique(clips):
        own = evaluation.select(clips == clip)
        for errors in rows(own):
            yield ClipRow(str(clip), own.rows.frames, errors)


def clip_tables(rows: Sequence[ClipRow]) -> str:
    """A Markdown table for each quantity: a line for each clip, and the mean and deviation over clips; or nothing."""
    quantities = dict.fromkeys(row.errors.quantity for row in rows)
    return "".join(_table([row for row in rows if row.errors.quantity == quantity]) for quantity in quantities)


def spread_metrics(rows: Sequence[ClipRow]) -> dict[str, float]:
    """Deviations over clips for MLflow, such as `held_out_clips/size_mlp_rmse_deviation`, those that are finite."""
    deviations = {
        f"{column.row.split}/{SHORT[column.row.quantity]}_{column.row.kind}_{column.metric}_deviation": column.deviation
        for column in _columns(rows)
    }
    return {name: value for name, value in deviations.items() if np.isfinite(value)}


@dataclass(frozen=True, slots=True)
class _Column:
    """A metric of one kind of estimator: a row that says which, and the values by clip."""

    row: TableRow
    metric: str
    values: dict[str, float]

    @property
    def title(self) -> str:
        return f"{METRICS[self.metric]}, {KIND_TITLES[self.row.kind]}"

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))

    @property
    def deviation(self) -> float:
        """Standard deviation of a clip; NaN for a single one."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else float("nan")

    def text(self, value: float) -> str:
        return f"{value:.{3 if self.metric == 'r2' else UNITS[self.row.quantity][2]}f}"


def _table(rows: Sequence[ClipRow]) -> str:
    """The table of one quantity."""
    columns, frames = list(_columns(rows)), {row.clip: row.frames for row in rows}
    heads = ["Clip", "Frames", *(column.title for column in columns)]
    lines = [
        heads,
        ["---"] * len(heads),
        *([clip, str(count), *(c.text(c.values[clip]) for c in columns)] for clip, count in frames.items()),
        ["mean", str(sum(frames.values())), *(column.text(column.mean) for column in columns)],
        ["deviation", "", *(column.text(column.deviation) for column in columns)],
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n### {TITLE}: {UNITS[rows[0].errors.quantity][0]}\n\n{table}\n"


def _columns(rows: Sequence[ClipRow]) -> Iterator[_Column]:
    """The columns that have values: of each metric, quantity and kind."""
    groups: dict[tuple[str, str], list[ClipRow]] = {}
    for row in rows:
        groups.setdefault((row.errors.quantity, row.errors.kind), []).append(row)
    for metric in METRICS:
        for group in groups.values():
            values = {row.clip: float(row.errors.converted[metric]) for row in group}
            if not np.isnan(list(values.values())).all():
                yield _Column(group[0].errors, metric, values)
