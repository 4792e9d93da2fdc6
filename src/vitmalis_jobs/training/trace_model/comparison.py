"""Measured and generated traces compared: a table and a figure, such as those of `docs/traces.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vitmalis.errors import UserError
from vitmalis.network.traces import Trace
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.plotting import BLUE, GREEN, ORANGE, VERMILION, canvas, save_figure
from vitmalis_jobs.training.trace_model.trace_statistics import statistics_frame

TraceSets = dict[str, list[Trace]]
"""Thirty traces of each technology."""

BEGIN, END = "<!-- table: written by python -m training.traces -->", "<!-- end of table -->"

STATISTICS: tuple[tuple[str, Callable[[pd.DataFrame], float], str], ...] = (
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

SERIES = (("measured", BLUE), ("generated", VERMILION))


def write_table(page: Path, measured: TraceSets, generated: dict[int, TraceSets]) -> None:
    """Write the table of comparison between the two markers of `page`.

    Args:
        page: Markdown with both markers; made if there is none.
        measured: the measured set.
        generated: set of each seed; seed 0 has a column of its own, the others give a range.

    Raises:
        UserError: a marker is missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise UserError(f"{page} needs the lines '{BEGIN}' and '{END}'; restore them from the repository")
    table = "\n\n".join(_table(technology, measured, generated) for technology in measured)
    head, rest = text.split(BEGIN, 1)
    with atomic_path(page) as temporary:
        temporary.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _table(technology: str, measured: TraceSets, generated: dict[int, TraceSets]) -> str:
    frames = {seed: statistics_frame(sets[technology]) for seed, sets in generated.items()}
    real = statistics_frame(measured[technology])
    others = len(frames) - 1
    lines = [f"| {technology.upper()} | measured | generated | {others} other seeds |", "|---|---|---|---|"]
    for label, statistic, form in STATISTICS:
        values = [statistic(frame) for seed, frame in frames.items() if seed != 0]
        spread = f"{min(values):{form}} - {max(values):{form}}" if values else "-"
        lines.append(f"| {label} | {statistic(real):{form}} | {statistic(frames[0]):{form}} | {spread} |")
    return "\n".join(lines)


def draw_figure(path: Path, measured: TraceSets, generated: TraceSets) -> None:
    """Draw three generated traces of each technology, and distributions of generated and measured traces."""
    with matplotlib.rc_context({"font.size": 8}):
        size_in = (12.0, 2.3 * len(measured))
        figure, panels = canvas(rows=len(measured), columns=4, size_in=size_in, width_ratios=[2.2, 1, 1, 1])
        for row, technology in enumerate(measured):
            _draw_technology(panels[4 * row : 4 * row + 4], technology, measured[technology], generated[technology])
        panels[1].legend(frameon=False, loc="lower right")
        save_figure(figure, path, dpi=100)


def _draw_technology(panels: Sequence[Axes], technology: str, measured: list[Trace], generated: list[Trace]) -> None:
    """Draw one row of panels: examples, then distributions of rate, variation and round-trip time."""
    both = (measured, generated)
    _draw_examples(panels[0], technology, generated)
    rates = [np.concatenate([trace.uplink_mbps for trace in traces]) for traces in both]
    variations = [statistics_frame(traces).cv.to_numpy() for traces in both]
    rtts = [np.concatenate([trace.rtt_ms for trace in traces]) for traces in both]
    _draw_cdf(panels[1], rates, "rate of a second, Mbps")
    _draw_cdf(panels[2], variations, "CV of a trace")
    _draw_cdf(panels[3], rtts, "RTT of a second, ms")
    panels[3].set_xlim(0, 130)


def _draw_examples(axes: Axes, technology: str, traces: list[Trace]) -> None:
    """Draw the traces at the 10th, 50th and 90th percentile of the means."""
    ranked = sorted(traces, key=lambda trace: trace.mean_mbps())
    for place, colour in ((0.1, VERMILION), (0.5, ORANGE), (0.9, GREEN)):
        trace = ranked[round(place * (len(ranked) - 1))]
        axes.step(trace.time_s, trace.uplink_mbps, where="post", color=colour, linewidth=0.8, label=trace.name)
    axes.set_title(f"generated {technology.upper()}", loc="left")
    axes.set_xlabel("time, s")
    axes.set_ylabel("uplink, Mbps")
    axes.legend(frameon=False, ncols=3, loc="upper right")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)


def _draw_cdf(axes: Axes, values_of_both: Sequence[np.ndarray], label: str) -> None:
    """Draw the cumulative distributions of measured and of generated values, (n,) each."""
    for values, (name, colour) in zip(values_of_both, SERIES, strict=True):
        # 200 quantiles are more than can be seen, and keep the file small.
        shares = np.linspace(0, 1, min(len(values), 200))
        axes.plot(np.quantile(values, shares), shares, color=colour, label=name, linewidth=1.2)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    axes.set_ylim(0, 1.02)
