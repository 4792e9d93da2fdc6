"""How far estimates are off, by configuration, on clips that were not learned from: the intervals of estimators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitmalis.estimation.configuration_table import ConfigurationTable
from vitmalis.estimation.estimators import Target
from vitmalis_jobs.training.estimation.sample_set import SampleSet

FloatArray = NDArray[np.float64]

KEYS: dict[Target, tuple[str, ...]] = {"payload_bytes": ("tau_d",), "f1": ("tau_d", "restoration_point")}
"""Features that a deviation depends on; all qualities share one, as each has few frames and they differ little."""


def deviations(rows: SampleSet, relative_estimate: FloatArray) -> tuple[ConfigurationTable, ConfigurationTable]:
    """Measure what `Estimator.error` and `Estimator.spread` say.

    Args:
        rows: samples of clips that the estimator did not learn from.
        relative_estimate: of these rows (n,), see `SampleSet.relative_estimate`.

    Returns:
        Root mean squares by configuration: over clips, of each clip's mean deviation; and over single frames. F1, or
        shares of the estimated payload.
    """
    deviation = rows.relative - relative_estimate
    if rows.target == "payload_bytes":
        deviation = deviation / relative_estimate
    columns = [rows.names.index(key) for key in KEYS[rows.target]]
    configurations, group = np.unique(rows.features[:, columns], axis=0, return_inverse=True)
    own = [group.ravel() == k for k in range(len(configurations))]
    errors = [
        _rms(np.array([_mean(rows, deviation, mask & (rows.clips == c)) for c in _clips(rows, mask)])) for mask in own
    ]
    spreads = [_rms(deviation[mask], rows.weights[mask]) for mask in own]
    keys, configurations = KEYS[rows.target], configurations.astype(np.int64)
    return (
        ConfigurationTable(keys, configurations, np.array(errors)),
        ConfigurationTable(keys, configurations, np.array(spreads)),
    )


def _clips(rows: SampleSet, mask: NDArray[np.bool_]) -> NDArray[np.str_]:
    return np.unique(rows.clips[mask])


def _mean(rows: SampleSet, deviation: FloatArray, mask: NDArray[np.bool_]) -> float:
    return float(np.average(deviation[mask], weights=rows.weights[mask]))


def _rms(values: FloatArray, weights: FloatArray | None = None) -> float:
    return float(np.sqrt(np.average(values**2, weights=weights)))
