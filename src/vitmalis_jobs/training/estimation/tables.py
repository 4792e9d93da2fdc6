"""Tables of estimation errors, as the paper's Table II has them, and a picture of estimates over truths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitmalis.estimation.estimators import Target
from vitmalis.paths import atomic_path
from vitmalis_jobs.training.estimation.scores import Scores
from vitmalis_jobs.training.estimation.splits import CORRECTED

KIND_TITLES = {
    "mlp": "MLP",
    "linear": "Linear regression",
    "mean": "Offline mean",
    CORRECTED: "MLP, corrected by the last payload",
}
SHORT: dict[Target, str] = {"payload_bytes": "size", "f1": "accuracy"}
"""How files and metrics call the targets."""

UNITS: dict[Target, tuple[str, float, int]] = {
    "payload_bytes": ("Size (KiB)", 1024.0, 2),
    "f1": ("Accuracy (F1)", 1.0, 4),
}
"""Title in tables, the unit in that of the samples, decimals."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a table: `scores` in the target's own unit (bytes, F1)."""

    split: str
    title: str
    target: Target
    kind: str
    scores: Scores

    @property
    def converted(self) -> dict[str, float]:
        """Scores with MAE and RMSE in the unit of the tables (KiB, F1)."""
        values = asdict(self.scores)
        unit = UNITS[self.target][1]
        return {**values, "mae": values["mae"] / unit, "rmse": values["rmse"] / unit}


def metrics(results: Iterable[Result]) -> dict[str, float]:
    """Names and values for MLflow: `held_out_parts/size_mlp_mae_kib`; what is not a number is left out."""
    named = {}
    for result in results:
        for name in ("mae", "rmse", "mape", "r2"):
            unit = "_kib" if result.target == "payload_bytes" and name in ("mae", "rmse") else ""
            named[f"{result.split}/{SHORT[result.target]}_{result.kind}_{name}{unit}"] = result.converted[name]
    return {name: value for name, value in named.items() if np.isfinite(value)}


def as_frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a result; mae and rmse in KiB for the size."""
    rows = [{"split": r.split, "target": SHORT[r.target], "kind": r.kind, **r.converted} for r in results]
    return pd.DataFrame(rows)


def markdown(results: Iterable[Result]) -> str:
    """A table for each split, in the layout of Table II, with what a reader must know below it."""
    results = list(results)
    sections = []
    for title in dict.fromkeys(result.title for result in results):
        lines = ["| Method | Metric | MAE | RMSE | MAPE (%) | R2 |", "|---|---|---|---|---|---|"]
        of_split = [result for result in results if result.title == title]
        for result in of_split:
            label, _, digits = UNITS[result.target]
            v = result.converted
            numbers = f"{v['mae']:.{digits}f} | {v['rmse']:.{digits}f} | {v['mape']:.1f} | {v['r2']:.3f}"
            lines.append(f"| {KIND_TITLES[result.kind]} | {label} | {numbers} |")
        counts = {
            SHORT[r.target]: f"{r.scores.samples} samples of {SHORT[r.target]}"
            + (f" ({r.scores.without_mape} with a truth of 0, not in MAPE)" if r.scores.without_mape else "")
            for r in of_split
        }
        sections.append(f"### {title}\n\n" + "\n".join(lines) + f"\n\n{', '.join(counts.values())}.")
    return "\n\n".join(sections) + "\n"


Pairs = dict[tuple[Target, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""(target, kind) to truths and estimates."""


def scatter(path: Path, pairs: Pairs, title: str) -> None:
    """Draw estimates over truths, a row a target and a column a kind; the diagonal is a perfect estimate."""
    targets = list(dict.fromkeys(target for target, _ in pairs))
    kinds = list(dict.fromkeys(kind for _, kind in pairs))
    figure = Figure(figsize=(3.4 * len(kinds), 3.3 * len(targets)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(targets), len(kinds), squeeze=False)
    for (target, kind), (truth, estimate) in pairs.items():
        axes = grid[targets.index(target)][kinds.index(kind)]
        label, unit, _ = UNITS[target]
        high = max(truth.max(), estimate.max()) / unit * 1.03
        axes.plot([0, high], [0, high], color="#999999", linewidth=0.8)
        axes.plot(truth / unit, estimate / unit, ".", color="#0072B2", markersize=2, alpha=0.25)
        axes.set(xlim=(0, high), ylim=(0, high), aspect="equal", xlabel=f"{label}, true", ylabel="estimated")
        axes.set_title(f"{KIND_TITLES[kind]}: R2 {Scores.of(truth, estimate).r2:.3f}", fontsize=9)
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
