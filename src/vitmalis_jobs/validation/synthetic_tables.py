"""Synthetic latency tables for benchmarks and tests: a decision's cost depends on their shapes, not their values."""

from __future__ import annotations

from vitmalis.estimation import EncodeTable, InferenceFit, LatencyTables
from vitmalis.estimation.features import QUALITIES, RESTORATION_POINTS


def synthetic_tables(model: str, model_id: str) -> LatencyTables:
    """Tables of a plausible device and server for frames of 960x540 pixels with 24 regions.

    Encoding takes about 8 ms, decoding 5 ms. Inference takes 400 ms, and at restoration point beta 2 ms * beta less for
    each downsampled region.
    """
    regions = tuple(range(0, 25, 4))
    return LatencyTables(
        device="synthetic",
        server="synthetic",
        model=model,
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
