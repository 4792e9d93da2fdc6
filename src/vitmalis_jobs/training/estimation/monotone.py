"""Which way the F1 must go with the configuration, and the nearest values of all configurations that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DIRECTIONS = {
    "tau_d": -1,
    "quality": 1,
    "restoration_point": -1,
    "downsampled_regions": -1,
    "downsampled_motion": -1,
    "downsampled_uncertainty": -1,
}
"""How the F1 goes with a feature: more regions downsampled, coarser JPEG or later restoration never help a detector."""

_SWEEPS, _TOLERANCE = 500, 1e-9


def project(values: FloatArray, weights: FloatArray, configurations: IntArray) -> FloatArray:
    """Change the F1 of configurations as little as possible so that it is monotone in each part of a configuration.

    Dykstra's alternating projections onto the chains of each part, which pool adjacent violators.

    Args:
        values: F1 (k,).
        weights: of the squared changes (k,).
        configurations: unique rows of tau_d, quality and restoration point (k, 3).

    Returns:
        (k,), falling with tau_d and restoration point, rising with quality; their weighted mean is that of `values`.
    """
    listed = [(tau_d, quality, point) for tau_d, quality, point in configurations.tolist()]
    families = [list(find(listed)) for find in (_by_quality, _by_point, _by_tau)]
    result, corrections = values.astype(np.float64), np.zeros((len(families), len(values)))
    for _ in range(_SWEEPS):
        before = result.copy()
        for chains, correction in zip(families, corrections, strict=True):
            moved = result + correction
            result = moved.copy()
            for chain in chains:
                result[chain] = isotonic_regression(moved[chain], weights=weights[chain]).x
            correction[:] = moved - result
        if np.abs(result - before).max() < _TOLERANCE:
            break
    return result


Chain = list[int]
"""Configurations whose F1 must not fall from one to the next, as rows."""
Row = tuple[int, int, int]
"""tau_d, quality and restoration point."""


def _by_quality(configurations: Sequence[Row]) -> Iterator[Chain]:
    return _chains(configurations, lambda c: (c[0], c[2]), lambda c: c[1])


def _by_point(configurations: Sequence[Row]) -> Iterator[Chain]:
    return _chains(configurations, lambda c: (c[0], c[1]), lambda c: -c[2])


def _by_tau(configurations: Sequence[Row]) -> Iterator[Chain]:
    """Chains of falling tau_d at a quality and restoration point; with tau_d 0 there is only point 0."""
    return _chains(configurations, lambda c: (c[1], c[2]), lambda c: -c[0])


def _chains(
    configurations: Sequence[Row], same: Callable[[Row], tuple[int, int]], order: Callable[[Row], int]
) -> Iterator[Chain]:
    rows = sorted(range(len(configurations)), key=lambda i: (same(configurations[i]), order(configurations[i])))
    for _, chain in groupby(rows, key=lambda i: same(configurations[i])):
        yield list(chain)
