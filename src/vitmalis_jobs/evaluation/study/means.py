"""Means over pairs of clip and trace, in a table with a row for each variant of the policies, and in a figure of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitmalis_jobs.common.plotting import canvas
from vitmalis_jobs.evaluation.study.figures import save
from vitmalis_jobs.evaluation.study.statistics import results_by_pair
from vitmalis_jobs.evaluation.study.tables import marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Means = Mapping[str, tuple[str, float]]
"""Title of a column, the metric of a run that it holds, and the factor from its unit to the title's."""


def means_table(
    runs: pd.DataFrame, variants: pd.DataFrame, means: Means, facts: Callable[[Mapping[Any, Any]], dict[str, Any]]
) -> pd.DataFrame:
    """One row for each variant: its configuration, facts about it, and means over the pairs that all have played.

    Args:
        runs: of the study.
        variants: a row of `runs` for each variant, in the order of the table.
        means: the columns of means.
        facts: the other columns of such a row.
    """
    columns = {title: results_by_pair(runs, metric) * factor for title, (metric, factor) in means.items()}
    marks = marked(runs, list(variants["policy"]))
    rows: list[dict[str, Any]] = []
    for variant in variants.to_dict("records"):
        policy = variant["policy"]
        row = {"policy": f"{variant['configuration']}{marks[policy].removeprefix(policy)}", **facts(variant)}
        row |= {"pairs": len(columns["rendering F1"])}
        rows.append(row | {title: own[policy].mean() for title, own in columns.items() if policy in own})
    return pd.DataFrame(rows)


def means_figure(
    stem: Path, table: pd.DataFrame, titles: Sequence[str], draw: Callable[[Axes, pd.DataFrame, str], None]
) -> Path:
    """Draw columns of a table of means, each in a panel of its own; returns the PNG.

    Args:
        stem: path of the figure without its suffix.
        table: of `means_table`.
        titles: of the columns; those that the table does not have are left out.
        draw: draws one column of the table.
    """
    shown = [title for title in titles if title in table]
    figure, axes = canvas(columns=len(shown), size_in=(4.2 * len(shown), 3.8))
    for ax, title in zip(axes, shown, strict=True):
        draw(ax, table, title)
    axes[0].legend(frameon=False, fontsize=8)
    return save(figure, stem)
