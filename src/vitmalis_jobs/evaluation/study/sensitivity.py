"""How much a study's result depends on its assumptions: one option at a time against the base, as a tornado plot.

The outcome is what a policy gains in rendering F1 over `trackb2b`, or over nothing where that was not played, on the
same pairs of clip and trace. Runs with `vary` are compared with those without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitmalis_jobs.common.plotting import BLUE, ORANGE, canvas, save_figure
from vitmalis_jobs.evaluation.study.labels import label
from vitmalis_jobs.evaluation.study.page import Section
from vitmalis_jobs.evaluation.study.runs import Study
from vitmalis_jobs.evaluation.study.statistics import by_pair, mean_interval
from vitmalis_jobs.evaluation.study.tables import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BASE = "base"
_WORDS = (
    "One assumption at a time is changed against the base. The gain is the mean over pairs of a policy's rendering F1 "
    "less that of TrackB2B under the same assumption; its change is that gain less the gain of the base on the same "
    "pairs, with a 95 % interval by bootstrap over pairs. A bar of the figure reaches from the gain of the base, the "
    "line, to that under the value at its end; the widest parameter is at the top."
)


def sections(study: Study, folder: Path) -> list[Section]:
    """The section with its table and, in `folder`, its figure; none for a study that varies nothing."""
    table = sensitivity_table(study)
    if table.empty:
        return []
    return [Section("Sensitivity to assumptions", [_WORDS], table, _figure(folder, table))]


def sensitivity_table(study: Study) -> pd.DataFrame:
    """One row for each policy and variation, and first the base; empty for a study that varies nothing."""
    if study.varied.empty:
        return pd.DataFrame()
    outcomes = {_BASE: _outcome(study.runs)}
    outcomes |= {str(varied): _outcome(runs) for varied, runs in study.varied.groupby("variation", sort=False)}
    policies = [policy for policy in study.policies if policy != BASELINE]
    return pd.DataFrame([row for policy in policies for row in _rows(policy, outcomes)])


def _outcome(runs: pd.DataFrame) -> pd.DataFrame:
    """Rendering F1 of each complete pair (rows) and policy (columns)."""
    return by_pair(runs, "rendering_f1")


def _rows(policy: str, outcomes: dict[str, pd.DataFrame]) -> Iterator[dict[str, object]]:
    base = outcomes[_BASE]
    for variation, f1 in outcomes.items():
        if policy not in f1 or policy not in base or (gains := _gain(f1, policy)).empty:
            continue
        changes = (gains - _gain(base, policy)).dropna()
        low, high = mean_interval(changes.to_numpy(np.float64))
        own = variation != _BASE
        yield {
            "varied": variation,
            "policy": policy,
            "pairs": len(gains),
            "rendering F1": f1[policy].mean(),
            "gain": gains.mean(),
            "change of the gain": changes.mean() if own else float("nan"),
            "from": low if own else float("nan"),
            "to": high if own else float("nan"),
        }


def _gain(f1: pd.DataFrame, policy: str) -> pd.Series:
    """Rendering F1 of a policy on each pair less that of `trackb2b`, where it was played."""
    return f1[policy] - f1[BASELINE] if BASELINE in f1 else f1[policy]


def _figure(folder: Path, table: pd.DataFrame) -> Path:
    """Draw a tornado for each policy, as PNG and SVG."""
    policies = list(table["policy"].unique())
    parameters = table.loc[table["varied"] != _BASE, "varied"].map(_parameter).nunique()
    figure, axes = canvas(columns=len(policies), size_in=(5.6 * len(policies), 1.4 + 0.5 * parameters))
    for ax, policy in zip(axes, policies, strict=True):
        _tornado(ax, table[table["policy"] == policy], policy)
    path = folder / "sensitivity.png"
    for suffix in (".png", ".svg"):
        save_figure(figure, path.with_suffix(suffix))
    return path


def _tornado(ax: Axes, rows: pd.DataFrame, policy: str) -> None:
    """Draw a bar from the base to the gain under each value of a parameter, the widest parameter at the top."""
    base = float(rows.loc[rows["varied"] == _BASE, "gain"].iloc[0])
    varied = rows[rows["varied"] != _BASE]
    gains = {name: own["gain"] for name, own in varied.groupby(varied["varied"].map(_parameter), sort=False)}
    widest = sorted(gains, key=lambda name: np.ptp([base, *gains[name]]))
    for place, name in enumerate(widest):
        _bars(ax, place, base, varied.loc[gains[name].index])
    ax.axvline(base, color="black", linewidth=1)
    ax.set_yticks(range(len(widest)), widest, fontsize=8)
    ax.margins(x=0.25)
    ax.set(xlabel="gain in rendering F1", title=label(policy))


def _bars(ax: Axes, place: int, base: float, rows: pd.DataFrame) -> None:
    """Draw the values of one parameter, the first in blue, with the value at the end of each bar."""
    for number, (varied, gain) in enumerate(zip(rows["varied"], rows["gain"], strict=True)):
        ax.barh(place, gain - base, left=base, height=0.6, color=(BLUE, ORANGE)[number % 2], alpha=0.8)
        side = "left" if gain >= base else "right"
        ax.annotate(
            f" {_value(varied)} ", (gain, place), ha=side, va=("bottom", "top")[number % 2], fontsize=7, clip_on=False
        )


def _parameter(variation: str) -> str:
    """The options that a variation sets, without their values."""
    return ", ".join(option.partition("=")[0] for option in variation.split(", "))


def _value(variation: str) -> str:
    """The values that a variation sets."""
    return ", ".join(option.partition("=")[2] for option in variation.split(", "))
