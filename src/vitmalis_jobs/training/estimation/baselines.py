"""The paper's alternatives to the MLPs (section VI, Table II): linear regression and offline mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import LinearEstimator, OfflineMeanEstimator, Target
from vitmalis_jobs.training.estimation.samples import SampleSet

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
    configurations, group = np.unique(_configurations(rows), axis=0, return_inverse=True)
    means = np.bincount(group.ravel(), rows.values) / np.bincount(group.ravel())
    return OfflineMeanEstimator(
        target=rows.target, features=rows.names, keys=keys, configurations=configurations.astype(np.int64),
        means=means, **origin,
    )  # fmt: skip


def check_covered(learned: SampleSet, held: SampleSet) -> None:
    """Make sure that every configuration to be judged on was also learned from: an offline mean cannot guess.

    Raises:
        UserError: one was not.
    """
    unseen = set(map(tuple, _configurations(held))) - set(map(tuple, _configurations(learned)))
    if unseen:
        name = ", ".join(f"{key}={v:g}" for key, v in zip(KEYS[held.target], min(unseen), strict=True))
        raise UserError(
            f"too few samples: {len(unseen)} configurations such as {name} are in none of the {learned.frames} frames "
            "that one table or fold learns from; take more with `python -m profiling.samples`"
        )


def _configurations(rows: SampleSet) -> NDArray[np.float64]:
    """What tells configurations apart, (n, keys)."""
    return rows.features[:, [rows.names.index(key) for key in KEYS[rows.target]]]
