"""F1 of tracked boxes by their age: how fast what is shown becomes wrong, learned offline and corrected online."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitmalis.errors import UserError

FloatArray = NDArray[np.float64]

AGES_S = (0.0, 0.0333, 0.2, 0.4, 0.8, 1.2)
F1 = (1.0, 0.968, 0.888, 0.832, 0.76, 0.694)
"""F1 of reference boxes of vitdet_tiny carried by the tracker lucas_kanade, by age: `python -m training.decay`, from
`python -m profiling.tracking --part profile --clips indoor walk_sunny drive_day market1906 --starts 5 --seconds 3`."""

_FORGETTING = 0.9
"""Weight of an observation relative to the next one."""
_PRIOR = 1.0
"""Weight of the offline curve: it counts as much as observations with so much expected decay, in nats."""
_RATES = (0.25, 4.0)
"""Slowest and fastest decay that is believed, relative to the offline curve."""
_LEAST = 0.05
"""Lower agreements count as this one: of a frame with two objects, F1 is often 0."""
_STEPS = 8
"""Points at which a curve is averaged over an interval."""


class F1ByAge:
    """Expected F1 of tracked boxes over their age, as exp(-rate H(age)).

    H is the decay of the offline curve, -ln F1, linear between its points and beyond the last. The rate is 1 for scenes
    that move like those that the curve was measured on; `observe` learns it from the scene that is played.

    Args:
        ages_s: ages of the offline curve, rising from 0 s.
        f1: F1 at each age, not rising, above 0.

    Raises:
        UserError: ages or F1 are no such curve.
    """

    def __init__(self, ages_s: Sequence[float], f1: Sequence[float]) -> None:
        ages, values = np.array(ages_s, np.float64), np.array(f1, np.float64)
        curve = len(ages) == len(values) >= 2 and ages[0] == 0 and bool((np.diff(ages) > 0).all())
        if not curve or values[0] > 1 or values[-1] <= 0 or (np.diff(values) > 0).any():
            raise UserError(
                f"policy.decay_ages_s={list(ages_s)} and policy.decay_f1={list(f1)}: give two or more ages that rise "
                "from 0, and for each an F1 of at most 1 that does not rise and stays above 0"
            )
        self._ages_s, self._decay = ages, -np.log(values)
        self._observed = self._expected = _PRIOR

    @property
    def rate(self) -> float:
        """Decay of the scene relative to the offline curve: 2 for one in which boxes become wrong twice as fast."""
        return float(np.clip(self._observed / self._expected, *_RATES))

    def at(self, ages_s: ArrayLike) -> FloatArray:
        """Expected F1 at each age, any shape."""
        return np.exp(-self.rate * self._offline_decay(ages_s))

    def mean(self, first_s: FloatArray, last_s: FloatArray) -> FloatArray:
        """Mean of the expected F1 over the ages from `first_s` (n,) to `last_s` (n,): what a viewer sees meanwhile."""
        middles = (np.arange(_STEPS) + 0.5) / _STEPS
        return self.at(first_s[:, None] + (last_s - first_s)[:, None] * middles).mean(axis=1)

    def observe(self, agreement: float, age_s: float, expected: float = 1.0) -> None:
        """Learn from tracked boxes and a result of the same frame.

        Args:
            agreement: F1 of the tracked boxes with those of the result.
            age_s: age of the tracked boxes.
            expected: F1 that they would have if nothing had moved, since both results contain errors.
        """
        decay = max(float(np.log(max(expected, _LEAST)) - np.log(max(agreement, _LEAST))), 0.0)
        self._observed = _PRIOR + _FORGETTING * (self._observed - _PRIOR) + decay
        self._expected = _PRIOR + _FORGETTING * (self._expected - _PRIOR) + float(self._offline_decay(age_s))

    def _offline_decay(self, ages_s: ArrayLike) -> FloatArray:
        ages = np.asarray(ages_s, np.float64)
        slope = (self._decay[-1] - self._decay[-2]) / (self._ages_s[-1] - self._ages_s[-2])
        beyond = np.maximum(ages - self._ages_s[-1], 0.0)
        return np.interp(ages, self._ages_s, self._decay) + slope * beyond
