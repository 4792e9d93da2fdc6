"""A policy to time where nothing was measured or trained: what a decision costs depends on shapes, not on values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from vitmalis.errors import UserError
from vitmalis.estimation import (
    ACCURACY_FEATURES,
    SIZE_FEATURES,
    EncodeTable,
    InferenceFit,
    LatencyTables,
    MlpEstimator,
    load_pair,
    save_estimator,
    save_latency_tables,
)
from vitmalis.estimation.features import QUALITIES, RESTORATION_POINTS
from vitmalis.policy.vitmalis import ViTMAlis

MODEL = "vitdet_tiny"
LAYERS = (128, 64, 1)
"""The paper's estimators."""


def policy_on(folder: Path) -> tuple[ViTMAlis, str]:
    """The full policy on made-up latency tables, and which estimators it has: "shipped", or "128-64-1, untrained".

    Args:
        folder: for its files; they are read once.
    """
    try:
        model_id = load_pair(MODEL).size.model_id
    except UserError:  # none are shipped
        write_estimators(folder)
        tables = write_tables(folder / "tables.json", "made-up")
        policy = ViTMAlis(latency_tables=str(tables), model=MODEL, estimators=str(folder))
        return policy, f"{'-'.join(map(str, LAYERS))}, untrained"
    return ViTMAlis(latency_tables=str(write_tables(folder / "tables.json", model_id)), model=MODEL), "shipped"


def write_tables(path: Path, model_id: str) -> Path:
    """Latency tables of a plausible device and server: inference shrinks with downsampled regions, later ones more."""
    regions = tuple(range(0, 25, 4))
    tables = LatencyTables(
        device="made-up",
        server="made-up",
        model=MODEL,
        model_id=model_id,
        width_px=960,
        height_px=540,
        regions=24,
        encode=EncodeTable(
            downsampled_regions=regions,
            qualities=QUALITIES,
            encode_s=tuple(tuple(0.004 + q * 4e-5 - n * 1e-4 for q in QUALITIES) for n in regions),
        ),
        decode_s=0.005,
        inference=tuple(
            InferenceFit(
                restoration_point=point,
                intercept_s=0.4,
                slope_s=-0.002 * point,
                r2=1.0,
                residual_s=0.0,
                largest_residual_s=0.0,
                samples=8,
            )
            for point in RESTORATION_POINTS
        ),
    )
    save_latency_tables(tables, path)
    return path


def write_estimators(folder: Path) -> None:
    """Both MLPs of the paper's shape with random weights: bytes around 100 kB, F1 around 0.7."""
    size = untrained("payload_bytes", SIZE_FEATURES, float(np.log(1e5)), "log")
    save_estimator(size, folder / "size_mlp.json")
    save_estimator(untrained("f1", ACCURACY_FEATURES, 0.7, "identity"), folder / "accuracy_mlp.json")


def untrained(
    target: Literal["payload_bytes", "f1"], features: tuple[str, ...], mean: float, output: Literal["identity", "log"]
) -> MlpEstimator:
    """An MLP of `LAYERS` with random weights whose outputs scatter around `mean`."""
    rng, sides = np.random.default_rng(0), (len(features), *LAYERS)
    return MlpEstimator(
        target=target,
        features=features,
        model=MODEL,
        model_id="made-up",
        mean=np.full(len(features), 1.0),
        scale=np.full(len(features), 10.0),
        weights=tuple(rng.normal(0, sides[i] ** -0.5, sides[i : i + 2]).astype(np.float32) for i in range(len(LAYERS))),
        biases=tuple(np.zeros(side, np.float32) for side in LAYERS),
        output_mean=mean,
        output_scale=0.1,
        output=output,
    )
