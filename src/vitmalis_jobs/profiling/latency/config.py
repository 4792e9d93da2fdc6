"""What `conf/profile_latency.yaml` says, with types."""

from __future__ import annotations

from typing import Any

import msgspec

from vitmalis_jobs.common.config import Count, MlflowOptions, ModelOptions, NotNegative, Share


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys mean what the comments in `conf/profile_latency.yaml` say."""


class FrameSize(_Section, frozen=True):
    """`frame`: pixels."""

    width: Count
    height: Count


class CodecGrid(_Section, frozen=True):
    """`codec`: what T_enc is measured at."""

    shares: list[Share]
    qualities: list[int]


class InferenceGrid(_Section, frozen=True):
    """`inference`: what LM_inf is fitted to."""

    shares: list[Share]


class PoorFit(_Section, frozen=True):
    """`poor_fit`: when a line is warned of."""

    r2: Share
    residual: NotNegative


class LatencyConfig(_Section, frozen=True):
    """The whole job."""

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
