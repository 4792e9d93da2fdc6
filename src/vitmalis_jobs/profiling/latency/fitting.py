"""LM^inf: a line through inference time over the number of downsampled regions, one per restoration point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from vitmalis.estimation.latency import InferenceFit
from vitmalis_jobs.common.plotting import canvas, colour, save_figure

Durations = Mapping[tuple[int, int], Sequence[float]]
"""Seconds measured, by (restoration point, N_d)."""


def medians(durations: Durations, point: int) -> dict[int, float]:
    """Median seconds by N_d for a restoration point; N_d = 0, the plain model, belongs to all of them."""
    return {count: median(values) for (of, count), values in sorted(durations.items()) if of == point or not count}


def fit_point(durations: Durations, point: int) -> InferenceFit:
    """Fit medians over N_d by least squares (paper, section IV-C)."""
    measured = medians(durations, point)
    return InferenceFit.through(point, list(measured), list(measured.values()))


def is_poor(fit: InferenceFit, durations: Durations, r2: float, residual: float) -> bool:
    """Whether a line is no good description: R^2 below `r2`, and misses of more than `residual` of the mean time.

    R^2 alone would find fault with restoration point 0: its time does not depend on N_d, so all of its variance is
    noise, however small.
    """
    mean_s = float(np.mean(list(medians(durations, fit.restoration_point).values())))
    return fit.r2 < r2 and fit.residual_s > residual * mean_s


def draw_fits(path: Path, fits: Sequence[InferenceFit], durations: Durations, title: str) -> None:
    """One line a restoration point over its medians, single measurements behind; below, what the lines miss (PNG)."""
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
