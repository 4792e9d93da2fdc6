"""LM_inf: a line through inference time over the number of downsampled regions, one for each restoration point."""

from __future__ import annotations

from statistics import median

import numpy as np

from vitmalis.estimation.latency import InferenceFit
from vitmalis_jobs.profiling.latency.durations import InferenceDurations


def medians(durations: InferenceDurations, point: int) -> dict[int, float]:
    """Median seconds by N_d for a restoration point; N_d = 0, the plain model, belongs to every point."""
    return {count: median(values) for (of, count), values in sorted(durations.items()) if of == point or not count}


def fit_point(durations: InferenceDurations, point: int) -> InferenceFit:
    """Fit medians over N_d by least squares (paper, section IV-C)."""
    measured = medians(durations, point)
    return InferenceFit.through(point, list(measured), list(measured.values()))


def is_poor(fit: InferenceFit, durations: InferenceDurations, r2: float, residual: float) -> bool:
    """Whether a line describes the medians badly: R^2 below `r2`, and residuals above `residual` of the mean time.

    R^2 alone would reject restoration point 0: its time does not depend on N_d, so all of its variance is noise,
    however small.
    """
    mean_s = float(np.mean(list(medians(durations, fit.restoration_point).values())))
    return fit.r2 < r2 and fit.residual_s > residual * mean_s
