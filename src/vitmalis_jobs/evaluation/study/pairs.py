"""The data of the page's interactive plots: a point for each run, grouped by pair of clip and trace, with its pages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import pandas as pd

from vitmalis.errors import UserError
from vitmalis_jobs.common.plotting import colour, marker
from vitmalis_jobs.evaluation.compare import compare
from vitmalis_jobs.evaluation.study.tables import BASELINE, OURS
from vitmalis_jobs.run.page.files import PAGE_FILE, read_page

MAX_COMPARISONS = 24
"""Most pairs for which the report makes a page of two runs side by side; each holds the clip's video."""


class PolicyOfPlot(msgspec.Struct, frozen=True):
    """A policy of the plots: its label, and its colour and marker, those of the figures."""

    label: str
    colour: str
    marker: str


class RunOfPlot(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the plots.

    Attributes:
        policy: position of its policy.
        metrics: by name, see `vitmalis.metrics.summarise`; only those that the plots draw.
        page: address of its page, relative to the report; empty where the run has none.
        folder: of the run, for the commands that make its page.
    """

    policy: int
    metrics: dict[str, float]
    page: str
    folder: str


class PairOfPlot(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one clip over one trace.

    Attributes:
        clip, trace: what the runs played.
        runs: one for each policy.
        comparison: address of the page with two of the runs side by side; empty where there is none.
        compared: folders of the two runs that such a page compares.
    """

    clip: str
    trace: str
    runs: list[RunOfPlot]
    comparison: str
    compared: list[str]


class PlotDocument(msgspec.Struct, frozen=True):
    """All that the plots draw."""

    policies: list[PolicyOfPlot]
    pairs: list[PairOfPlot]


DRAWN = ("rendering_f1", "inference_f1", "e2e_latency_s_median", "payload_kib_median")
"""Metrics that the plots draw."""


def plot_document(runs: pd.DataFrame, policies: Sequence[str], labels: Sequence[str], folder: Path) -> PlotDocument:
    """The plots' data; pages of two runs side by side are written into the report's folder where the runs have pages.

    Args:
        runs: of the study.
        policies: in the order of the figures.
        labels: of the policies.
        folder: of the report.
    """
    shown = [PolicyOfPlot(text, colour(place), marker(place)) for place, text in enumerate(labels)]
    pairs: list[PairOfPlot] = []
    for (clip, trace), group in runs.groupby(["clip", "trace"], sort=True):
        own = {str(run["policy"]): run for _, run in group.iterrows()}
        points = [_point(own[policy], place, folder) for place, policy in enumerate(policies) if policy in own]
        compared = _compared(own, policies)
        room = sum(bool(pair.comparison) for pair in pairs) < MAX_COMPARISONS
        page = _comparison(compared, folder, f"{clip}-{trace}") if room else ""
        pairs.append(PairOfPlot(clip=str(clip), trace=str(trace), runs=points, comparison=page, compared=compared))
    return PlotDocument(shown, pairs)


def _point(run: pd.Series, place: int, folder: Path) -> RunOfPlot:
    metrics = {name: float(str(run[name])) for name in DRAWN if name in run}
    page = Path(str(run["run_dir"])) / PAGE_FILE
    return RunOfPlot(
        policy=place,
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        page=_address(page, folder) if page.is_file() else "",
        folder=str(run["run_dir"]),
    )


def _compared(runs: Mapping[str, pd.Series], policies: Sequence[str]) -> list[str]:
    """Folders of the baseline and of ViTMAlis, or of the first and the last policy where one is missing."""
    played = [policy for policy in policies if policy in runs]
    chosen = [BASELINE, OURS] if {BASELINE, OURS} <= set(played) else [played[0], played[-1]]
    return [str(runs[policy]["run_dir"]) for policy in chosen] if len(played) > 1 else []


def _comparison(compared: Sequence[str], folder: Path, name: str) -> str:
    pages = [Path(run) / PAGE_FILE for run in compared]
    if not pages or not all(page.is_file() for page in pages):
        return ""
    path = folder / "pairs" / f"{name}.html"
    try:
        first, second = map(read_page, pages)
        return _address(compare(first, second, path), folder)
    except UserError:  # pages of another version, or of runs over other parts of a clip
        return ""


def _address(page: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix())
