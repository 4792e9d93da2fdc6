"""The typed configuration of estimator training: the sections of `conf/train_estimators.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import Count, MlflowOptions, ModelOptions, Section


class SamplesOptions(Section, frozen=True):
    """`samples`: the folder of the profiling samples; None for the model's, "shipped" for those of the package."""

    folder: str | None


class SearchOptions(Section, frozen=True):
    """`search`: the hyperparameter search of each MLP.

    Attributes:
        folder: of the study and of the tables.
        trials: trials of each target in all, over all starts of the job.
        timeout_s: limit of the search of each target in one start of the job, None for no limit; a trial that has
            begun is finished.
        folds: groups of clips, each validated on once.
        layers: fewest and most hidden layers.
        widths: choices of the width of a hidden layer.
        epochs: fewest and most passes over the samples.
        seed: of sampler, initial weights and batches.
    """

    folder: str
    trials: Count
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] | None
    folds: Annotated[int, msgspec.Meta(ge=2)]
    layers: tuple[int, int]
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    epochs: tuple[int, int]
    seed: Annotated[int, msgspec.Meta(ge=0)]

    def __post_init__(self) -> None:
        for name in ("layers", "epochs"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise UserError(f"search.{name}={[low, high]}: give the fewest (at least 1) and the most")


class DomainOptions(Section, frozen=True):
    """`domains`: name patterns of the clips of the cross-domain check."""

    walking: tuple[str, ...]
    other: tuple[str, ...]


class HeldOutClipsOptions(Section, frozen=True):
    """`held_out_clips`: whether the clips are also reported one by one, with their spread."""

    each: bool


class ExportOptions(Section, frozen=True):
    """`export`: where the estimators and their card go."""

    folder: str


class EstimatorTrainingConfig(Section, frozen=True):
    """The configuration of estimator training: all of `conf/train_estimators.yaml`."""

    model: ModelOptions
    samples: SamplesOptions
    search: SearchOptions
    domains: DomainOptions
    held_out_clips: HeldOutClipsOptions
    export: ExportOptions
    mlflow: MlflowOptions
