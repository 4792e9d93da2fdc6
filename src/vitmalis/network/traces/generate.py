"""Generated cellular traces: a Markov-switching AR(1) of the log rate and of the log round-trip time.

Hamilton's model (1989): a hidden regime follows a Markov chain, and the logarithm follows the regime's autoregression,

    x[t] = intercept[s] + slope[s] * x[t-1] + spread[s] * normal,    s = regime at t

so one regime can be the stable high rate of a strong cell and another a dip or an outage. `trace_model.json` holds the
parameters, fitted to measured traces by `python -m training.traces`; `docs/traces.md` compares both kinds of traces.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

TECHNOLOGIES = ("4g", "5g")
TRACES_EACH = 30
LENGTH_S = 300
SILENCE_MBPS = 0.05
"""A second with a lower rate counts as silent: its generated rate is 0."""
CANDIDATES = 16
"""Number of draws for one trace, of which the one whose mean is nearest to the wanted mean is taken."""


class SwitchingModel(msgspec.Struct, frozen=True):
    """Markov-switching AR(1) of a natural logarithm, with K regimes.

    Attributes:
        start: (K,) probability of the first regime.
        transition: (K, K), row = regime now, column = regime a second later.
        intercept, slope, spread: (K,) the autoregression within each regime.
        level, level_spread: (K,) mean and standard deviation of the logarithm one second before a trace's first.
        lowest, highest: (K,) bounds of the logarithm while the regime holds.
    """

    start: list[float]
    transition: list[list[float]]
    intercept: list[float]
    slope: list[float]
    spread: list[float]
    level: list[float]
    level_spread: list[float]
    lowest: list[float]
    highest: list[float]

    def sample(self, rng: np.random.Generator, draws: int, length: int) -> NDArray[np.float64]:
        """Sample independent series of the exponential (Mbps or ms), float64 (draws, length)."""
        uniform, normal = rng.random((draws, length)), rng.standard_normal((draws, length))
        regime = self._regimes(uniform)
        slope, low, high = (np.array(v)[regime] for v in (self.slope, self.lowest, self.highest))
        drive = np.array(self.intercept)[regime] + np.array(self.spread)[regime] * normal
        x = np.empty((draws, length))
        x[:, 0] = np.array(self.level)[regime[:, 0]] + np.array(self.level_spread)[regime[:, 0]] * normal[:, 0]
        for t in range(1, length):
            x[:, t] = np.minimum(np.maximum(drive[:, t] + slope[:, t] * x[:, t - 1], low[:, t]), high[:, t])
        return np.exp(x)

    def _regimes(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Sample regimes, int64 (draws, length), by inverting the cumulative probabilities at `uniform`."""
        last = len(self.start) - 1
        cumulative = np.cumsum(self.transition, axis=1)[:, :last]
        # The successor of each regime, for all draws and seconds together, so that the loop only has to index.
        following = (uniform[:, :, None, None] > cumulative).sum(-1)
        regime = np.empty(uniform.shape, np.int64)
        regime[:, 0] = (uniform[:, :1] > np.cumsum(self.start)[:last]).sum(-1)
        draw = np.arange(len(uniform))
        for t in range(1, uniform.shape[1]):
            regime[:, t] = following[draw, t, regime[:, t - 1]]
        return regime


class Group(msgspec.Struct, frozen=True):
    """Traces of one technology that share a mobility and, where there are many, a quality of coverage.

    Attributes:
        mobility: driving, walking or static.
        coverage: `weak` or `strong`, the halves by trace mean, or `any`.
        traces: number of traces among the thirty.
        mean_mbps, mean_rtt_ms: five-number summary (0, 25, 50, 75, 100 %) of the trace means.
        uplink, rtt: models of rate and round-trip time.
    """

    mobility: str
    coverage: str
    traces: int
    mean_mbps: list[float]
    mean_rtt_ms: list[float]
    uplink: SwitchingModel
    rtt: SwitchingModel


class TraceModel(msgspec.Struct, frozen=True):
    """Parameters of the generator; `origin` records the data and the command of the fit."""

    origin: dict[str, str]
    technologies: dict[str, list[Group]]


class GeneratedSeries(msgspec.Struct, frozen=True):
    """One generated trace: mobility, and float64 (300,) rate and round-trip time at steps of 1 s."""

    mobility: str
    uplink_mbps: NDArray[np.float64]
    rtt_ms: NDArray[np.float64]


@cache
def fitted_model() -> TraceModel:
    """Parameters in the package's `trace_model.json`."""
    return msgspec.json.decode((files(__package__) / "trace_model.json").read_bytes(), type=TraceModel)


def generate(technology: str, index: int, *, seed: int = 0, model: TraceModel | None = None) -> GeneratedSeries:
    """Generate trace `index` (0..29) of `technology` (`4g`, `5g`), equal on every machine, rounded to 3 decimals.

    Seeding (PCG64 through SeedSequence): [seed, technology digit] assigns the thirty places (a group and a rank of the
    means in it) to the indices; [seed, technology digit, index] draws the trace itself.
    """
    groups = (model or fitted_model()).technologies[technology]
    digit = int(technology[0])
    group, mean_mbps, mean_rtt_ms = _assign_places(groups, np.random.default_rng([seed, digit]))[index]
    rng = np.random.default_rng([seed, digit, index])
    uplink = _sample_with_mean(group.uplink, rng, mean_mbps)
    uplink[uplink < SILENCE_MBPS] = 0.0
    return GeneratedSeries(group.mobility, uplink, _sample_with_mean(group.rtt, rng, mean_rtt_ms))


def _assign_places(groups: list[Group], rng: np.random.Generator) -> list[tuple[Group, float, float]]:
    """Thirty places in random order: group, mean rate, mean round-trip time; the means cover each group's range."""
    places: list[tuple[Group, float, float]] = []
    for group in groups:
        share = np.linspace(0, 1, group.traces) if group.traces > 1 else np.array([0.5])
        known = np.linspace(0, 1, len(group.mean_mbps))
        means = np.interp(share, known, group.mean_mbps)
        rtts = rng.permutation(np.interp(share, known, group.mean_rtt_ms))
        places += [(group, float(mean), float(rtt)) for mean, rtt in zip(means, rtts, strict=True)]
    return [places[i] for i in rng.permutation(len(places))]


def _sample_with_mean(model: SwitchingModel, rng: np.random.Generator, mean: float) -> NDArray[np.float64]:
    """The draw whose mean is nearest to `mean`, scaled to that mean and clipped at the highest fitted value."""
    candidates = model.sample(rng, CANDIDATES, LENGTH_S)
    means = candidates.mean(axis=1)
    best = int(np.argmin(np.abs(np.log(means / mean))))
    return np.round(np.minimum(candidates[best] * (mean / means[best]), np.exp(max(model.highest))), 3)
