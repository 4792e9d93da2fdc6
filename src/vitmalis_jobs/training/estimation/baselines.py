"""The paper's baselines of the MLPs (section VI, Table II): linear regression and offline mean.

Both learn what the MLP learns, `SampleSet.relative` with the same weights, so that a table compares estimators alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.configuration_table import ConfigurationTable
from vitmalis.estimation.estimators import LinearEstimator, OfflineMeanEstimator, Target
from vitmalis_jobs.training.estimation.monotone import project
from vitmalis_jobs.training.estimation.sample_set import SampleSet

KEYS: dict[Target, tuple[str, ...]] = {
    "payload_bytes": ("tau_d", "quality"),
    "f1": ("tau_d", "quality", "restoration_point"),
}
"""Features that identify a configuration; the payload is the same at every restoration point."""


def fit_linear(rows: SampleSet, **origin: Any) -> LinearEstimator:
    """Fit a linear regression by weighted least squares; `origin` has model, model_id and provenance."""
    # Features are standardised to keep the system well conditioned.
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale == 0] = 1.0
    system = np.column_stack([(rows.features - mean) / scale, np.ones(len(rows))])
    root = np.sqrt(rows.weights)
    solution, *_ = np.linalg.lstsq(system * root[:, None], rows.relative * root, rcond=None)
    coefficients = solution[:-1] / scale
    fitted = system @ solution
    intercept = float(solution[-1] - coefficients @ mean) + rows.level_of(fitted)
    return LinearEstimator(
        target=rows.target, features=rows.names, coefficients=coefficients, intercept=intercept, **origin
    )


def fit_mean(rows: SampleSet, **origin: Any) -> OfflineMeanEstimator:
    """Take the weighted mean of each configuration over all frames; `origin` as for `fit_linear`.

    A frame is profiled in a part of the configurations, so that the F1 of one rests on few frames. They are pooled:
    differences to the reference configuration of the same frame are averaged, and configurations that contradict
    `vitmalis_jobs.training.estimation.monotone` share their mean.
    """
    distinct, group = np.unique(_configurations(rows), axis=0, return_inverse=True)
    configurations, group = distinct.astype(np.int64), group.ravel()
    weights = np.bincount(group, rows.weights)
    sums = np.bincount(group, rows.weights * rows.relative)
    # A configuration that was tried on frames without boxes only says nothing.
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    if rows.target == "f1":
        means = project(means, np.maximum(weights, 1e-6), configurations)
    table = ConfigurationTable(KEYS[rows.target], configurations, means + rows.level_of(means[group]))
    return OfflineMeanEstimator(target=rows.target, features=rows.names, means=table, **origin)


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
