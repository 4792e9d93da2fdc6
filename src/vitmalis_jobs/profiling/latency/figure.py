"""The figure of a latency job: measured inference times, the lines fitted to them, and their residuals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitmalis.estimation.latency import InferenceFit
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.profiling.latency.durations import InferenceDurations
from vitmalis_jobs.profiling.latency.fitting import medians


def draw_fits(path: Path, fits: Sequence[InferenceFit], durations: InferenceDurations, title: str) -> None:
    """Draw a line for each restoration point over its medians and single measurements; below, the residuals."""
    figure, (above, below) = canvas(title, rows=2, size_in=(8, 6), sharex=True, height_ratios=(3, 1))
    for fit in fits:
        measured = medians(durations, fit.restoration_point)
        own = colour(fit.restoration_point)
        counts, seconds = np.array(list(measured)), np.array(list(measured.values()))
        line = fit.intercept_s + fit.slope_s * counts
        for count in counts:
            values = durations.get((fit.restoration_point, int(count)), ())
            above.plot([count] * len(values), [1e3 * value for value in values], ".", color=own, alpha=0.3)
        label = f"point {fit.restoration_point}: R² {fit.r2:.3f}, residual {1e3 * fit.residual_s:.1f} ms"
        above.plot(counts, 1e3 * seconds, "o", color=own, label=label)
        above.plot(counts, 1e3 * line, "-", color=own)
        below.plot(counts, 1e3 * (seconds - line), "o-", color=own)
    below.axhline(0, color="black", linewidth=0.8)
    above.set(ylabel="inference, ms", ylim=(0, None))
    below.set(xlabel="downsampled regions N_d", ylabel="residual, ms")
    above.legend(frameon=False)
    save_figure(figure, path)
