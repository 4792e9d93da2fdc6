"""Means over pairs of clip and trace, in a table with a row for each variant of the policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from vitmalis_jobs.evaluation.study.statistics import results_by_pair
from vitmalis_jobs.evaluation.study.tables import marked

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
