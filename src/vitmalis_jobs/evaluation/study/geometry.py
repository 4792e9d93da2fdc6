"""The section of a study on window and downsampling factor: what each pair of them costs and gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitmalis_jobs.common.plotting import colour
from vitmalis_jobs.evaluation.study.means import means_figure, means_table
from vitmalis_jobs.evaluation.study.page import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REGIONS = ["window", "downsampling_factor"]
"""Columns of `Study.runs` that say which decision regions a run had."""

_MEANS = {
    "rendering F1": ("rendering_f1", 1.0),
    "inference F1": ("inference_f1", 1.0),
    "payload, KiB": ("payload_kib_median", 1.0),
    "E2E, ms": ("e2e_latency_s_median", 1e3),
    "network, ms": ("network_s_median", 1e3),
    "inference, ms": ("inference_s_median", 1e3),
    "encoding, ms": ("encode_s_median", 1e3),
    "decoding, ms": ("decode_s_median", 1e3),
    "interval, frames": ("offload_interval_frames_median", 1.0),
}
"""Title, metric of a run, and the factor from its unit to the title's."""

_PANELS = ("E2E, ms", "payload, KiB", "rendering F1")

_WORDS = (
    "A region has w x d patches of 16 px along each side, and a downsampled one is 1/d of that. Means over the same "
    "pairs of clip and trace. Windows and padding (to 16 d px) change what the model itself finds, and the detections "
    "of each (w, d) are compared with those of the same model, w and d at full resolution: F1 says what offloading "
    "loses, not how good a window is."
)


def section(runs: pd.DataFrame, folder: Path) -> list[Section]:
    """The section with its table and, in `folder`, its figure; none for a study with one pair of w and d."""
    table = regions_table(runs)
    if table.empty:
        return []
    figure = means_figure(folder / "geometry", table, _PANELS, _lines)
    return [Section("Window and downsampling factor", [_WORDS], table, figure)]


def regions_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each policy and pair of w and d: means over complete pairs; empty for a study with one (w, d)."""
    known = runs.dropna(subset=REGIONS) if set(REGIONS) <= set(runs) else runs.head(0)
    variants = known.drop_duplicates("policy").sort_values(["configuration", *REGIONS]) if len(known) else known
    if len(variants) == 0 or len(variants.drop_duplicates(REGIONS)) < 2:
        return pd.DataFrame()
    return means_table(runs, variants, _MEANS, _regions)


def _regions(variant: Mapping[Any, Any]) -> dict[str, int]:
    """The columns of a row that say which regions its runs had."""
    window, factor = int(variant["window"]), int(variant["downsampling_factor"])
    return {"w": window, "d": factor, "region, px": 16 * window * factor}


def _lines(ax: Axes, table: pd.DataFrame, title: str) -> None:
    """Draw a column over d, a line for each policy and window."""
    several = table["policy"].nunique() > 1
    for place, ((policy, window), own) in enumerate(table.groupby(["policy", "w"], sort=False)):
        label = f"{policy}, w = {window}" if several else f"w = {window}"
        ax.plot(own["d"], own[title], "o-", color=colour(place), label=label)
    ax.set_xticks(sorted(table["d"].unique()))
    ax.set(xlabel="downsampling factor d", ylabel=title)
    ax.set_ylim(0, 1.1 * table[title].max())
