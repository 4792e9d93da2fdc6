"""Tables of estimation errors in the layout of the paper's Table II, and a scatter plot of estimates over truths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vitmalis.estimation.estimators import Target
from vitmalis_jobs.common.plotting import BLUE, GREY, canvas, save_figure
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics
from vitmalis_jobs.training.estimation.splits import CORRECTED, PAPER_INPUTS, SplitEvaluation

KIND_TITLES = {
    "mlp": "MLP",
    PAPER_INPUTS: "MLP, the paper's inputs",
    "linear": "Linear regression",
    "mean": "Offline mean",
    CORRECTED: "MLP, corrected by the last payload",
}
Quantity = Literal["payload_bytes", "f1", "relative"]
"""What a row of a table is about: a target, or the F1 relative to `REFERENCE` on the same frame."""

SHORT: dict[Quantity, str] = {"payload_bytes": "size", "f1": "accuracy", "relative": "relative"}
"""Names of the quantities in files and MLflow metrics."""

UNITS: dict[Quantity, tuple[str, float, int]] = {
    "payload_bytes": ("Size (KiB)", 1024.0, 2),
    "f1": ("Accuracy (F1)", 1.0, 4),
    "relative": ("Relative accuracy (F1)", 1.0, 4),
}
"""Title in tables, size of its unit in that of the samples, decimals."""

COLUMNS = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE (%)", "r2": "R2", "bias": "Bias", "regret": "Regret"}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table: one kind of estimator on one split.

    Attributes:
        split, title: of the split.
        quantity: that is estimated.
        kind: of the estimator.
        metrics: in the quantity's own unit (bytes, F1).
        regret: of decisions made with the estimates, F1; NaN for the size.
    """

    split: str
    title: str
    quantity: Quantity
    kind: str
    metrics: RegressionMetrics
    regret: float = float("nan")

    @property
    def converted(self) -> dict[str, float]:
        """Metrics with MAE, RMSE and bias in the unit of the tables (KiB, F1), and the regret.

        Values of relative accuracy are around 0, so that they have no MAPE.
        """
        values = asdict(self.metrics)
        unit = UNITS[self.quantity][1]
        values |= {name: values[name] / unit for name in ("mae", "rmse", "bias")} | {"regret": self.regret}
        return values | {"mape": float("nan"), "without_mape": 0} if self.quantity == "relative" else values


def mlflow_metrics(rows: Iterable[TableRow]) -> dict[str, float]:
    """Metrics for MLflow, such as `held_out_parts/size_mlp_mae_kib`; those that are not finite are left out."""
    named = {}
    for row in rows:
        for name in COLUMNS:
            unit = "_kib" if row.quantity == "payload_bytes" and name in ("mae", "rmse", "bias") else ""
            named[f"{row.split}/{SHORT[row.quantity]}_{row.kind}_{name}{unit}"] = row.converted[name]
    return {name: value for name, value in named.items() if np.isfinite(value)}


def as_frame(rows: Iterable[TableRow]) -> pd.DataFrame:
    """The rows as a data frame; mae, rmse and bias of the size are in KiB."""
    return pd.DataFrame([{"split": r.split, "target": SHORT[r.quantity], "kind": r.kind, **r.converted} for r in rows])


def markdown(rows: Iterable[TableRow]) -> str:
    """A Markdown table for each split in the layout of Table II, with the numbers of samples below it."""
    rows = list(rows)
    titles = dict.fromkeys(row.title for row in rows)
    return "\n\n".join(_section(title, [row for row in rows if row.title == title]) for title in titles) + "\n"


def _section(title: str, rows: list[TableRow]) -> str:
    lines = [f"| Method | Metric | {' | '.join(COLUMNS.values())} |", "|---|" + "---|" * (1 + len(COLUMNS))]
    for row in rows:
        label, _, digits = UNITS[row.quantity]
        places = {"mae": digits, "rmse": digits, "mape": 1, "r2": 3, "bias": digits, "regret": 4}
        numbers = [_number(row.converted[name], count) for name, count in places.items()]
        lines.append(f"| {' | '.join([KIND_TITLES[row.kind], label, *numbers])} |")
    counts = {SHORT[row.quantity]: _count(row) for row in rows if row.quantity != "relative"}
    return f"### {title}\n\n" + "\n".join(lines) + f"\n\n{', '.join(counts.values())}."


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _count(row: TableRow) -> str:
    without = row.metrics.without_mape
    note = f" ({without} with a truth of 0, not in MAPE)" if without else ""
    return f"{row.metrics.samples} samples of {SHORT[row.quantity]}{note}"


Pairs = Mapping[tuple[Target, str], SplitEvaluation]
"""(target, kind) to estimates of a split."""


def scatter(path: Path, pairs: Pairs, title: str) -> None:
    """Plot estimates over truths: targets in rows, kinds in columns; a perfect estimate lies on the diagonal."""
    targets = list(dict.fromkeys(target for target, _ in pairs))
    kinds = list(dict.fromkeys(kind for _, kind in pairs))
    size_in = (3.4 * len(kinds), 3.3 * len(targets))
    figure, panels = canvas(title, rows=len(targets), columns=len(kinds), size_in=size_in)
    for (target, kind), evaluation in pairs.items():
        truth, estimate = evaluation.rows.values, evaluation.estimate
        axes = panels[targets.index(target) * len(kinds) + kinds.index(kind)]
        label, unit, _ = UNITS[target]
        high = max(truth.max(), estimate.max()) / unit * 1.03
        axes.plot([0, high], [0, high], color=GREY, linewidth=0.8)
        axes.plot(truth / unit, estimate / unit, ".", color=BLUE, markersize=2, alpha=0.25)
        axes.set(xlim=(0, high), ylim=(0, high), aspect="equal", xlabel=f"{label}, true", ylabel="estimated")
        axes.set_title(f"{KIND_TITLES[kind]}: R2 {evaluation.metrics.r2:.3f}", fontsize=9)
    save_figure(figure, path, dpi=110)
