"""The paper's alternatives to the MLPs (section VI, Table II): linear regression and offline mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.estimation.samples import SampleSet
from vitmalis.estimation.estimators import LinearEstimator, OfflineMeanEstimator, Target

KEYS: dict[Target, tuple[str, ...]] = {
    "payload_bytes": ("tau_d", "quality"),
    "f1": ("tau_d", "quality", "restoration_point"),
}
"""What tells configurations apart; the payload is the same at every restoration point."""


def fit_linear(rows: SampleSet, **origin: Any) -> LinearEstimator:
    """Ordinary least squares; `origin` names model, model_id and provenance."""
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale == 0] = 1.0  # standardised only to keep the system well conditioned
    system = np.column_stack([(rows.features - mean) / scale, np.ones(len(rows))])
    solution, *_ = np.linalg.lstsq(system, rows.values, rcond=None)
    coefficients = solution[:-1] / scale
    intercept = float(solution[-1] - coefficients @ mean)
    return LinearEstimator(
        target=rows.target, features=rows.names, coefficients=coefficients, intercept=intercept, **origin
    )


def fit_mean(rows: SampleSet, **origin: Any) -> OfflineMeanEstimator:
    """Mean of each configuration over all frames; `origin` as for `fit_linear`."""
    keys = KEYS[rows.target]
    columns = [rows.names.index(key) for key in keys]
    configurations, group = np.unique(rows.features[:, columns], axis=0, return_inverse=True)
    means = np.bincount(group.ravel(), rows.values) / np.bincount(group.ravel())
    return OfflineMeanEstimator(
        target=rows.target, features=rows.names, keys=keys, configurations=configurations.astype(np.int64),
        means=means, **origin,
    )  # fmt: skip
