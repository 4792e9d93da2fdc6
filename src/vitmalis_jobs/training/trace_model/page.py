"""The table and the figure of `docs/traces.md`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vitmalis.errors import UserError
from vitmalis.network.traces import Trace
from vitmalis.paths import atomic_path
from vitmalis_jobs.training.trace_model.statistics import describe_all

TraceSets = dict[str, list[Trace]]
"""Technology to its thirty traces."""

BEGIN, END = "<!-- table: written by python -m training.traces -->", "<!-- end of table -->"

ROWS: tuple[tuple[str, Callable[[pd.DataFrame], float], str], ...] = (
    ("mean of the trace means, Mbps", lambda d: d.mean_mbps.mean(), ".1f"),
    ("spread (sd) of the trace means, Mbps", lambda d: d.mean_mbps.std(), ".1f"),
    ("lowest trace mean, Mbps", lambda d: d.mean_mbps.min(), ".1f"),
    ("highest trace mean, Mbps", lambda d: d.mean_mbps.max(), ".1f"),
    ("CV of 1 s, mean over traces", lambda d: d.cv.mean(), ".2f"),
    ("CV of 1 s, median", lambda d: d.cv.median(), ".2f"),
    ("CV of 1 s, spread (sd)", lambda d: d.cv.std(), ".2f"),
    ("lag-1 autocorrelation, mean", lambda d: d.lag1.mean(), ".2f"),
    ("lag-10 autocorrelation, mean", lambda d: d.lag10.mean(), ".2f"),
    ("seconds below 1 Mbps, %", lambda d: d.weak_percent.mean(), ".1f"),
    ("traces with a second below 1 Mbps", lambda d: float((d.weak_percent > 0).sum()), ".0f"),
    ("longest stretch below 1 Mbps, mean over traces, s", lambda d: d.longest_weak_s.mean(), ".1f"),
    ("longest stretch below 1 Mbps of all, s", lambda d: d.longest_weak_s.max(), ".0f"),
    ("seconds in which the rate halves, %", lambda d: d.halving_percent.mean(), ".1f"),
    ("RTT, mean of the trace means, ms", lambda d: d.rtt_mean_ms.mean(), ".1f"),
    ("RTT, mean of the trace medians, ms", lambda d: d.rtt_median_ms.mean(), ".1f"),
    ("RTT, mean of the trace p99, ms", lambda d: d.rtt_p99_ms.mean(), ".1f"),
    ("RTT, lag-1 autocorrelation, mean", lambda d: d.rtt_lag1.mean(), ".2f"),
)

MEASURED, GENERATED = "#444444", "#d1495b"


def write_table(page: Path, measured: TraceSets, generated: dict[int, TraceSets]) -> None:
    """Replace what stands between the two markers of `page` by a fresh table.

    Args:
        page: Markdown with both markers.
        measured: the measured set.
        generated: seed to set; seed 0 has its own column, the others give a range.

    Raises:
        UserError: the page or a marker is missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or END not in text:
        raise UserError(f"{page} needs the lines '{BEGIN}' and '{END}'; restore them from the repository")
    table = "\n\n".join(_table(technology, measured, generated) for technology in measured)
    head, rest = text.split(BEGIN, 1)
    with atomic_path(page) as temporary:
        temporary.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _table(technology: str, measured: TraceSets, generated: dict[int, TraceSets]) -> str:
    frames = {seed: describe_all(sets[technology]) for seed, sets in generated.items()}
    real = describe_all(measured[technology])
    others = len(frames) - 1
    lines = [f"| {technology.upper()} | measured | generated | {others} other seeds |", "|---|---|---|---|"]
    for label, statistic, form in ROWS:
        values = [statistic(frame) for seed, frame in frames.items() if seed != 0]
        spread = f"{min(values):{form}} - {max(values):{form}}" if values else "-"
        lines.append(f"| {label} | {statistic(real):{form}} | {statistic(frames[0]):{form}} | {spread} |")
    return "\n".join(lines)


def draw_figure(path: Path, measured: TraceSets, generated: TraceSets) -> None:
    """Three generated traces per technology, and distributions of generated against measured."""
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 4, figsize=(12, 4.6), width_ratios=[2.2, 1, 1, 1], layout="constrained")
    for row, technology in enumerate(measured):
        _draw_examples(axes[row, 0], technology, generated[technology])
        real, made = describe_all(measured[technology]), describe_all(generated[technology])
        rates = [np.concatenate([t.uplink_mbps for t in sets[technology]]) for sets in (measured, generated)]
        rtts = [np.concatenate([t.rtt_ms for t in sets[technology]]) for sets in (measured, generated)]
        _draw_cdf(axes[row, 1], rates[0], rates[1], "rate of a second, Mbps")
        _draw_cdf(axes[row, 2], real.cv.to_numpy(), made.cv.to_numpy(), "CV of a trace")
        _draw_cdf(axes[row, 3], rtts[0], rtts[1], "RTT of a second, ms")
        axes[row, 3].set_xlim(0, 130)
    axes[0, 1].legend(frameon=False, loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def _draw_examples(axes: Axes, technology: str, traces: list[Trace]) -> None:
    """The traces at the 10th, 50th and 90th percentile of the means."""
    ranked = sorted(traces, key=lambda trace: trace.mean_mbps)
    for place, colour in ((0.1, "#d1495b"), (0.5, "#edae49"), (0.9, "#00798c")):
        trace = ranked[round(place * (len(ranked) - 1))]
        axes.step(trace.time_s, trace.uplink_mbps, where="post", color=colour, linewidth=0.8, label=trace.name)
    axes.set_title(f"generated {technology.upper()}", loc="left")
    axes.set_xlabel("time, s")
    axes.set_ylabel("uplink, Mbps")
    axes.legend(frameon=False, ncols=3, loc="upper right")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)


def _draw_cdf(axes: Axes, measured: np.ndarray, generated: np.ndarray, label: str) -> None:
    for values, name, colour in ((measured, "measured", MEASURED), (generated, "generated", GENERATED)):
        # 200 quantiles are all the eye can see, and keep the file small.
        shares = np.linspace(0, 1, min(len(values), 200))
        axes.plot(np.quantile(values, shares), shares, color=colour, label=name, linewidth=1.2)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    axes.set_ylim(0, 1.02)
