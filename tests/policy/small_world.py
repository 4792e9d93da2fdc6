"""Synthetic estimators and latency tables for policies: quality and resolution cost what one expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitmalis.estimation import (
    ACCURACY_FEATURES,
    SIZE_FEATURES,
    ConfigurationTable,
    LinearEstimator,
    MlpEstimator,
    OfflineMeanEstimator,
    configuration_space,
    save_estimator,
    save_latency_tables,
)
from vitmalis_jobs.validation.synthetic_tables import synthetic_tables

MODEL = {"model": "vitdet_tiny", "model_id": "vitdet_tiny-test"}
SIZE = {"downsampled_regions": -2e3, "downsampled_motion": -2e4, "frame_motion": 1e4, "quality": 1.5e3}
ACCURACY = {"quality": 0.003, "restoration_point": -0.01, "downsampled_regions": -0.004, "downsampled_motion": -0.1}


def write_estimators(folder: Path) -> None:
    """Write estimators of a linear law: a linear one, an MLP that is linear, means over the configuration space."""
    space = configuration_space()
    for target, features, law, intercept, keys in (
        ("payload_bytes", SIZE_FEATURES, SIZE, -60_000.0, ("tau_d", "quality")),
        ("f1", ACCURACY_FEATURES, ACCURACY, 0.65, ("tau_d", "quality", "restoration_point")),
    ):
        common = {"target": target, "features": features, **MODEL}
        coefficients = np.array([law.get(name, 0.0) for name in features])
        linear = LinearEstimator(coefficients=coefficients, intercept=intercept, **common)
        mlp = MlpEstimator(
            mean=np.zeros(len(features)),
            scale=np.ones(len(features)),
            weights=(coefficients[:, None].astype(np.float32),),
            biases=(np.zeros(1, np.float32),),
            output_mean=intercept,
            output_scale=1.0,
            output="identity",
            **common,
        )
        columns = {"tau_d": space.tau_d, "quality": space.quality, "restoration_point": space.restoration_point}
        rows = np.unique(np.stack([columns[key] for key in keys], axis=1), axis=0)
        steps = dict(zip(keys, rows.T, strict=True))
        law_of_keys = law | {"tau_d": law["downsampled_regions"] * 6.0}
        # Six regions of each type.
        means = intercept + sum(law_of_keys.get(key, 0.0) * steps[key] for key in keys)
        mean = OfflineMeanEstimator(means=ConfigurationTable(keys, rows, np.asarray(means, float)), **common)
        prefix = "size" if target == "payload_bytes" else "accuracy"
        for estimator in (linear, mlp, mean):
            save_estimator(estimator, folder / f"{prefix}_{estimator.kind}.json")


def write_tables(path: Path) -> Path:
    """Write synthetic latency tables of the estimators' model."""
    save_latency_tables(synthetic_tables(**MODEL), path)
    return path
