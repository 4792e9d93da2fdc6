"""A policy to time where nothing was measured: what a decision costs depends on shapes, not on values."""

from __future__ import annotations

from pathlib import Path

from vitmalis.estimation import (
    EncodeTable,
    InferenceFit,
    LatencyTables,
    load_pair,
    save_latency_tables,
)
from vitmalis.estimation.features import QUALITIES, RESTORATION_POINTS
from vitmalis.policy.vitmalis import ViTMAlis

MODEL = "vitdet_tiny"


def policy_on(folder: Path) -> ViTMAlis:
    """The full policy with the shipped estimators on made-up latency tables.

    Args:
        folder: for the tables; they are read once.
    """
    tables = write_tables(folder / "tables.json", load_pair(MODEL).size.model_id)
    return ViTMAlis(latency_tables=str(tables), model=MODEL)


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
