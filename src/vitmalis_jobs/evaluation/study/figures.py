"""Figures of a study as in the paper, each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitmalis_jobs.common.plotting import canvas, colour, hatch, line_style, marker, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def overall(folder: Path, pairs: pd.DataFrame, inference: pd.DataFrame, policies: Sequence[str]) -> Path:
    """Draw Fig. 8 (12 with ablations): rendering F1 over pairs, and mean inference F1 with its deviation."""
    figure, (cdf, box, bars) = _panels(3)
    for place, policy in enumerate(policies):
        _cdf(cdf, pairs[policy], policy, place)
    cdf.set(xlabel="rendering F1", ylabel="share of pairs", ylim=(0, 1.02))
    cdf.legend(frameon=False, fontsize=8)
    _boxes(box, [pairs[policy] for policy in policies], policies, "rendering F1")
    means = [inference[policy].mean() for policy in policies]
    deviations = [inference[policy].std(ddof=0) for policy in policies]
    places = range(len(policies))
    colours, hatches = [colour(place) for place in places], [hatch(place) for place in places]
    bars.bar(places, means, yerr=deviations, color=colours, hatch=hatches, capsize=3)
    bars.set(ylabel="inference F1, mean and deviation", ylim=(0, 1.05))
    _label(bars, policies)
    return save(figure, folder / "fig8")


def delays(folder: Path, offloads: pd.DataFrame, policies: Sequence[str]) -> Path:
    """Draw Fig. 9: E2E latency, network and inference time of all offloads, and the interval between them."""
    figure, axes = canvas(rows=2, columns=2, size_in=(9.0, 7.0))
    titles = {"e2e_latency_ms": "E2E latency, ms", "network_ms": "network, ms", "inference_ms": "inference, ms"}
    for ax, (column, title) in zip(axes, titles.items(), strict=False):
        _boxes(ax, _columns(offloads, column, policies), policies, title)
        ax.set_ylim(bottom=0)
    for place, values in enumerate(_columns(offloads, "interval_frames", policies)):
        _cdf(axes[3], values, policies[place], place)
    axes[3].set(xlabel="offloading interval, frames", ylabel="share of offloads", ylim=(0, 1.02))
    axes[3].legend(frameon=False, fontsize=8)
    return save(figure, folder / "fig9")


def codec(folder: Path, offloads: pd.DataFrame, policies: Sequence[str]) -> Path | None:
    """Draw Fig. 10: encoding and decoding time; None where most are constant, as boxes would be lines."""
    titles = {"encode_ms": "encoding, ms", "decode_ms": "decoding, ms"}
    durations = {title: _columns(offloads, column, policies) for column, title in titles.items()}
    ranges = [values.quantile(0.75) - values.quantile(0.25) for columns in durations.values() for values in columns]
    if np.median(ranges) <= 0:
        return None
    figure, axes = _panels(2)
    for ax, (title, columns) in zip(axes, durations.items(), strict=True):
        _boxes(ax, columns, policies, title)
        ax.set_ylim(bottom=0)
    return save(figure, folder / "fig10")


def overhead(folder: Path, offloads: pd.DataFrame) -> Path | None:
    """Draw Fig. 11: time of motion analyzer, estimator and optimizer; None if no policy has them."""
    names = {"motion_ms": "motion analyzer", "estimation_ms": "estimator", "optimization_ms": "optimizer"}
    estimating = offloads.dropna(subset=["estimation_ms"])
    if estimating.empty:
        return None
    figure, (ax,) = _panels(1)
    _boxes(ax, [estimating[column].dropna() for column in names], list(names.values()), "ms per offload")
    return save(figure, folder / "fig11")


def breakdown(folder: Path, pairs: pd.DataFrame, policies: Sequence[str]) -> Path:
    """Draw the mean rendering F1 of each clip and of each trace."""
    figure, axes = _panels(2)
    for ax, level in zip(axes, ("clip", "trace"), strict=True):
        means = pairs.groupby(level=level).mean()
        for place, policy in enumerate(policies):
            ax.plot(means[policy], range(len(means)), marker(place), color=colour(place), label=policy)
        ax.set_yticks(range(len(means)), means.index)
        ax.set(xlabel="mean rendering F1", title=f"by {level}")
    axes[0].legend(frameon=False, fontsize=8)
    return save(figure, folder / "breakdown")


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    return canvas(columns=count, size_in=(4.2 * count, 3.8))


def _columns(offloads: pd.DataFrame, column: str, policies: Sequence[str]) -> list[pd.Series]:
    return [offloads.loc[offloads["policy"] == policy, column].dropna() for policy in policies]


def _cdf(ax: Axes, values: pd.Series, label: str, place: int) -> None:
    """Draw a distribution that rises from 0, so that a single value is seen as a vertical line."""
    ordered = np.sort(values.to_numpy(float))
    shares = np.arange(len(ordered) + 1) / max(1, len(ordered))
    steps, style = [*ordered[:1], *ordered], line_style(place)
    ax.step(steps, shares if len(ordered) else [], style, where="post", color=colour(place), label=label)


def _boxes(ax: Axes, columns: Sequence[pd.Series], names: Sequence[str], title: str) -> None:
    drawn = ax.boxplot([column.to_numpy(float) for column in columns], showfliers=False, patch_artist=True)
    for place, patch in enumerate(drawn["boxes"]):
        patch.set(facecolor=colour(place), alpha=0.6, hatch=hatch(place))
    for line in drawn["medians"]:
        line.set(color="black")
    ax.set(ylabel=title)
    _label(ax, names, first=1)


def _label(ax: Axes, names: Sequence[str], first: int = 0) -> None:
    ax.set_xticks(range(first, first + len(names)), names, rotation=40, ha="right")


def save(figure: Figure, stem: Path) -> Path:
    """Write a figure as PNG and SVG; returns the PNG."""
    for suffix in (".svg", ".png"):
        save_figure(figure, stem.with_suffix(suffix), dpi=110)
    return stem.with_suffix(".png")
