"""Expectation maximisation for a Markov-switching AR(1) over several series of equal length (Hamilton 1990)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.network.traces.generate import SwitchingModel

Array = NDArray[np.float64]

MIN_SPREAD = 0.02
"""Smallest standard deviation inside a regime (2 %), so that no regime can collapse to a few equal values."""
BOUND_SPREADS = 2.0
"""A generated logarithm stays within so many standard deviations of the regime's level."""


@dataclass(frozen=True)
class _Parameters:
    """Parameters of the model in logarithms: arrays (K,) over the regimes, `transition` (K, K)."""

    start: Array
    transition: Array
    intercept: Array
    slope: Array
    spread: Array
    level: Array
    level_spread: Array


def fit_switching(
    series: Array, *, regimes: int, max_slope: float, restarts: int, iterations: int, seed: int
) -> tuple[SwitchingModel, float]:
    """Fit a model to positive series (N, T): the one with the highest likelihood among several random starts.

    Args:
        series: Mbps or ms, above 0; each row is one trace.
        regimes: K.
        max_slope: bound on the autoregression inside a regime, below 1; the Markov chain models longer persistence.
        restarts: random starts.
        iterations: EM steps of each start at most.
        seed: of the random starts.

    Returns:
        The model, its numbers rounded to 5 decimals, and its log-likelihood per second.
    """
    x = np.log(series)
    fits = [_fit_once(x, regimes, max_slope, iterations, np.random.default_rng([seed, r])) for r in range(restarts)]
    best, likelihood = max(fits, key=lambda fit: fit[1])
    return _as_model(best, float(x.min()), float(x.max())), likelihood / x[:, 1:].size


def _fit_once(
    x: Array, regimes: int, max_slope: float, iterations: int, rng: np.random.Generator
) -> tuple[_Parameters, float]:
    weights = _first_weights(x[:, 1:], regimes, rng)
    start = np.full(regimes, 1 / regimes)
    transition = np.full((regimes, regimes), 0.1 / max(regimes - 1, 1))
    np.fill_diagonal(transition, 0.9)
    before = -np.inf
    for _ in range(iterations):
        parameters = _maximise(x, weights, start, transition, max_slope)
        weights, transitions, likelihood = _expect(x, parameters)
        start = _normalised(weights[:, 0].sum(axis=0) + 1e-3)
        transition = _normalised(transitions + 1e-6)
        if likelihood - before < 1e-2:
            break
        before = likelihood
    return _maximise(x, weights, start, transition, max_slope), likelihood


def _first_weights(current: Array, regimes: int, rng: np.random.Generator) -> Array:
    """Soft assignment (N, T-1, K) of values to jittered quantiles, from which a fit starts."""
    centres = np.quantile(current, (np.arange(regimes) + 0.5) / regimes) + rng.normal(0, 0.2 * current.std(), regimes)
    distance = np.abs(current[..., None] - centres)
    return _normalised((distance == distance.min(axis=-1, keepdims=True)) + 0.05 * rng.random(distance.shape))


def _maximise(x: Array, weights: Array, start: Array, transition: Array, max_slope: float) -> _Parameters:
    """M step: for each regime a weighted regression of each value on the one before."""
    before, after = x[:, :-1, None], x[:, 1:, None]

    def mean(values: Array) -> Array:
        return (weights * values).sum(axis=(0, 1)) / weights.sum(axis=(0, 1))

    mean_before, mean_after = mean(before), mean(after)
    variance = mean((before - mean_before) ** 2)
    covariance = mean((before - mean_before) * (after - mean_after))
    slope = np.clip(covariance / (variance + 1e-12), 0, max_slope)
    intercept = mean_after - slope * mean_before
    spread = np.maximum(np.sqrt(mean((after - intercept - slope * before) ** 2)), MIN_SPREAD)
    return _Parameters(start, transition, intercept, slope, spread, mean_before, np.sqrt(variance))


def _expect(x: Array, p: _Parameters) -> tuple[Array, Array, float]:
    """E step by forward-backward: weights (N, T-1, K), expected transitions (K, K), log-likelihood."""
    residual = (x[:, 1:, None] - p.intercept - p.slope * x[:, :-1, None]) / p.spread
    log_density = -0.5 * residual**2 - np.log(p.spread * np.sqrt(2 * np.pi))
    peak = log_density.max(axis=-1, keepdims=True)
    density = np.exp(log_density - peak)
    forward, scale = np.empty_like(density), np.empty((*density.shape[:2], 1))
    for t in range(density.shape[1]):
        joint = (forward[:, t - 1] @ p.transition if t else p.start) * density[:, t]
        scale[:, t] = joint.sum(axis=-1, keepdims=True)
        forward[:, t] = joint / scale[:, t]
    scaled = density / scale
    backward = np.ones_like(density)
    for t in range(density.shape[1] - 2, -1, -1):
        backward[:, t] = (backward[:, t + 1] * scaled[:, t + 1]) @ p.transition.T
    ahead = backward[:, 1:] * scaled[:, 1:]
    transitions = p.transition * np.einsum("nti,ntj->ij", forward[:, :-1], ahead)
    return _normalised(forward * backward), transitions, float(np.log(scale).sum() + peak.sum())


def _as_model(p: _Parameters, lowest: float, highest: float) -> SwitchingModel:
    reach = BOUND_SPREADS * p.level_spread
    rounded = {
        "start": p.start, "transition": p.transition, "intercept": p.intercept, "slope": p.slope, "spread": p.spread,
        "level": p.level, "level_spread": p.level_spread,
        "lowest": np.maximum(p.level - reach, lowest), "highest": np.minimum(p.level + reach, highest),
    }  # fmt: skip
    return SwitchingModel(**{name: np.round(values, 5).tolist() for name, values in rounded.items()})


def _normalised(values: Array) -> Array:
    return values / values.sum(axis=-1, keepdims=True)
