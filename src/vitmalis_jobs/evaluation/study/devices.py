"""The section of a study on several devices: what each policy gives and costs as more of them share the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vitmalis_jobs.common.plotting import colour
from vitmalis_jobs.evaluation.study.means import means_figure, means_table
from vitmalis_jobs.evaluation.study.page import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OF_ONE = {
    "first_device_rendering_f1": "rendering_f1",
    "worst_device_rendering_f1": "rendering_f1",
    "first_device_e2e_latency_s_median": "e2e_latency_s_median",
}
"""Metric of a run with several devices, and the one that it equals where there is one device."""

_FIRST_F1, _FIRST_E2E = "first device's F1", "first device's E2E, ms"
_MEANS = {
    "rendering F1": ("rendering_f1", 1.0),
    _FIRST_F1: ("first_device_rendering_f1", 1.0),
    "worst device's F1": ("worst_device_rendering_f1", 1.0),
    "fairness of F1": ("jain_rendering_f1", 1.0),
    "E2E, ms": ("e2e_latency_s_median", 1e3),
    _FIRST_E2E: ("first_device_e2e_latency_s_median", 1e3),
    "queue, ms": ("queue_s_median", 1e3),
    "inference, ms": ("inference_s_median", 1e3),
    "payload, KiB": ("payload_kib_median", 1.0),
}
_WORDS = (
    "N devices share one server, each from its own second of clip and trace. F1, E2E and the other columns are means "
    "over the devices and over the same pairs of clip and trace. The first device plays the same whatever N is: its "
    "columns, and the figure, compare different N. Fairness is Jain's index, 1 where all have the same F1."
)


def section(runs: pd.DataFrame, folder: Path) -> list[Section]:
    """The section with its table and, in `folder`, its figure; none for a study with one number of devices."""
    table = devices_table(runs)
    if table.empty:
        return []
    figure = means_figure(folder / "devices", table, (_FIRST_F1, _FIRST_E2E), _lines)
    return [Section("Several devices", [_WORDS], table, figure)]


def devices_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each policy and number of devices: means over complete pairs; empty for a study with one number."""
    if "devices" not in runs or runs["devices"].nunique() < 2:
        return pd.DataFrame()
    variants = runs.drop_duplicates("policy").sort_values(["configuration", "devices"])
    return means_table(_completed(runs), variants, _MEANS, lambda variant: {"devices": int(variant["devices"])})


def _completed(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with what one device has in place of the first, the worst and fairness."""
    alone = runs["devices"] == 1
    values = {name: runs[own].where(alone, runs.get(name)) for name, own in _OF_ONE.items() if own in runs}
    return runs.assign(**values, jain_rendering_f1=runs["jain_rendering_f1"].where(~alone, 1.0))


def _lines(ax: Axes, table: pd.DataFrame, title: str) -> None:
    """Draw a column over N, a line for each policy."""
    for place, (policy, own) in enumerate(table.groupby("policy", sort=False)):
        ax.plot(own["devices"], own[title], "o-", color=colour(place), label=policy)
    ax.set_xticks(sorted(table["devices"].unique()))
    ax.set(xlabel="devices on one server", ylabel=title)
    ax.set_ylim(0, 1.1 * table[title].max())
