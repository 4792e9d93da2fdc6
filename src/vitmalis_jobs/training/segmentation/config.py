"""The typed configuration of mask head training: the sections of `conf/train_masks.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from vitmalis_jobs.common.config import Count, MlflowOptions, ModelOptions, NotNegative, Section
from vitmalis_jobs.training.detection.config import (
    LoopOptions,
    RenderedOptions,
    Stage,
    StartOptions,
    WholeFrameOptions,
    check_start,
)

DETECTOR_SHA256 = "detector_sha256"
"""Name in a mask head's metadata: the checksum of the weights file of the detector that it was trained on."""


class MaskTrainOptions(LoopOptions, frozen=True):
    """`train` of a mask head.

    Attributes:
        bf16: automatic mixed precision in the frozen part.
        objects: most objects of a view that are learned.
        box_jitter: standard deviation by which each side of a true box is moved, as a share of the box: detected boxes
            are off, too.
    """

    bf16: bool
    objects: Count
    box_jitter: NotNegative


class MaskValidationOptions(Section, frozen=True):
    """`held_out`: what a mask head is evaluated on.

    Attributes:
        frames_per_profile: rendered scenes of each profile.
    """

    frames_per_profile: Count


class MaskExportOptions(Section, frozen=True):
    """`export`: where the best weights go.

    Attributes:
        path: the whole detector, with the mask head, for `model.weights`.
        mask_head: the mask head alone, as it comes with the package.
    """

    path: str
    mask_head: str


class MaskTrainingConfig(Section, frozen=True):
    """The configuration of mask head training: all of `conf/train_masks.yaml`."""

    model: ModelOptions
    start: StartOptions
    train: MaskTrainOptions
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]
    whole_frames: WholeFrameOptions
    rendered: RenderedOptions
    held_out: MaskValidationOptions
    export: MaskExportOptions
    mlflow: MlflowOptions

    def __post_init__(self) -> None:
        check_start(self.model)
