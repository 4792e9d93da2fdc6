"""Typed form of `conf/profile_latency.yaml`."""

from __future__ import annotations

from typing import Any

from vitmalis_jobs.common.config import Count, MlflowOptions, ModelOptions, NotNegative, Section, Share


class FrameSize(Section, frozen=True):
    """`frame`: size in pixels that all frames are brought to."""

    width: Count
    height: Count


class CodecGrid(Section, frozen=True):
    """`codec`: shares of downsampled regions and qualities at which T_enc is measured."""

    shares: list[Share]
    qualities: list[int]


class InferenceGrid(Section, frozen=True):
    """`inference`: shares of downsampled regions to which LM_inf is fitted."""

    shares: list[Share]


class PoorFit(Section, frozen=True):
    """`poor_fit`: limits beyond which the job warns of a line."""

    r2: Share
    residual: NotNegative


class LatencyConfig(Section, frozen=True):
    """Configuration of the whole job."""

    model: ModelOptions
    clips: dict[str, dict[str, Any]]
    frame: FrameSize
    device: str | None
    server: str | None
    client_threads: Count
    server_threads: Count
    codec: CodecGrid
    inference: InferenceGrid
    repeats: Count
    poor_fit: PoorFit
    seed: int
    server_tables: str | None
    output: str | None
    mlflow: MlflowOptions
