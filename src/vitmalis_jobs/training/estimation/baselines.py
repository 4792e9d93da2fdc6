"""The paper's baselines of the MLPs (section VI, Table II): linear regression and offline mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import LinearEstimator, OfflineMeanEstimator, Target
from vitmalis_jobs.training.estimation.sample_set import SampleSet

KEYS: dict[Target, tuple[str, ...]] = {
    "payload_bytes": ("tau_d", "quality"),
    "f1": ("tau_d", "quality", "restoration_point"),
}
"""Features that identify a configuration; the payload is the same at every restoration point."""


def fit_linear(rows: SampleSet, **origin: Any) -> LinearEstimator:
    """Fit a linear regression by ordinary least squares; `origin` has model, model_id and provenance."""
    # Features are standardised to keep the system well conditioned.
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale == 0] = 1.0
    system = np.column_stack([(rows.features - mean) / scale, np.ones(len(rows))])
    solution, *_ = np.linalg.lstsq(system, rows.values, rcond=None)
    coefficients = solution[:-1] / scale
    intercept = float(solution[-1] - coefficients @ mean)
    return LinearEstimator(
        target=rows.target, features=rows.names, coefficients=coefficients, intercept=intercept, **origin
    )


def fit_mean(rows: SampleSet, **origin: Any) -> OfflineMeanEstimator:
    """Take the mean of each configuration over all frames; `origin` as for `fit_linear`."""
    keys = KEYS[rows.target]
    configurations, group = np.unique(_configurations(rows), axis=0, return_inverse=True)
    means = np.bincount(group.ravel(), rows.values) / np.bincount(group.ravel())
    return OfflineMeanEstimator(
        target=rows.target, features=rows.names, keys=keys, configurations=configurations.astype(np.int64),
        means=means, **origin,
    )  # fmt: skip


def check_covered(training: SampleSet, evaluation: SampleSet) -> None:
    """Check that the training samples have every configuration of the evaluation samples, as an offline mean needs.

    Raises:
        UserError: a configuration is missing.
    """
    unseen = set(map(tuple, _configurations(evaluation))) - set(map(tuple, _configurations(training)))
    if unseen:
        name = ", ".join(f"{key}={v:g}" for key, v in zip(KEYS[evaluation.target], min(unseen), strict=True))
        raise UserError(
            f"too few samples: {len(unseen)} configurations such as {name} are in none of the {training.frames} frames "
            "that one table or fold trains on; take more with `python -m profiling.samples`"
        )


def _configurations(rows: SampleSet) -> NDArray[np.float64]:
    """The features that identify the configuration of each row, (n, keys)."""
    return rows.features[:, [rows.names.index(key) for key in KEYS[rows.target]]]
