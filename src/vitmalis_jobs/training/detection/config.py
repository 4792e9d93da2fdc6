"""The typed configuration of detector training: the sections of `conf/train_detector.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from vitmalis.errors import UserError
from vitmalis.types import DownsamplingFactor
from vitmalis.video.manifest import manifest
from vitmalis.video.standin import PROFILES
from vitmalis_jobs.common.config import (
    Count,
    MlflowOptions,
    ModelOptions,
    NotNegative,
    Positive,
    Section,
    Share,
    Window,
)

Seed = Annotated[int, msgspec.Meta(ge=0)]
ViewSide = Annotated[int, msgspec.Meta(ge=32, multiple_of=32)]
"""Width or height of a training view, pixels: a multiple of the pyramid's coarsest stride."""


def check_clips(option: str, names: Iterable[str]) -> None:
    """Raise `UserError` if an option names a clip that is not in the manifest."""
    if unknown := sorted(set(names) - set(manifest())):
        raise UserError(f"{option}: there is no clip '{unknown[0]}': choose among {', '.join(manifest())}")


class StartOptions(Section, frozen=True):
    """`start`: the weights that a new run starts from, and its decision regions."""

    weights: str | None
    window: Window | None
    downsampling_factor: DownsamplingFactor = 2


class LoopOptions(Section, frozen=True):
    """Options of every training loop: the optimisation, its length and where its files go.

    Attributes:
        device: as PyTorch names it, or "auto", see `chosen_device`.
        hours: length of the run in hours of training time, or None where `steps` gives it.
        steps: length of the run in batches, or None where `hours` gives it.
        warm_up: share of the run in which the learning rate rises.
        ema_decay: decay of the moving average of the weights.
        clip_norm: largest norm of the gradient.
        mixed_share: share of the batches in which random regions are downsampled (see `random_mixture`).
        workers: processes that prepare batches, and before that render frames; 0 does both in the training process.
    """

    folder: str
    device: str
    hours: Positive | None
    steps: Count | None
    learning_rate: Positive
    weight_decay: NotNegative
    warm_up: Share
    ema_decay: Share
    clip_norm: Positive
    mixed_share: Share
    threads: Count
    workers: Annotated[int, msgspec.Meta(ge=0)]
    seed: Seed
    checkpoint_every_s: NotNegative
    evaluate_every_s: NotNegative
    log_every_steps: Count

    def __post_init__(self) -> None:
        if (self.hours is None) == (self.steps is None):
            raise UserError(f"train.hours={self.hours} and train.steps={self.steps}: give one and null the other")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is over after so many batches and seconds of training, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (3600 * (self.hours or 1.0)))


def check_start(model: ModelOptions) -> None:
    """Raise `UserError` if options that are for evaluations say what training starts from."""
    for name, default in (("weights", None), ("window", None), ("downsampling_factor", 2)):
        if (value := getattr(model, name)) != default:
            raise UserError(f"model.{name}={value} is for evaluations: training starts from start.{name}=...")


class TrainOptions(LoopOptions, frozen=True):
    """`train` of a detector.

    Attributes:
        muon: see `make_optimisers`.
        box_weight: weight of the box loss relative to the other two.
        bf16: automatic mixed precision.
        batch_scale: factor of the numbers of images in a batch.
    """

    muon: bool
    box_weight: NotNegative
    bf16: bool
    batch_scale: Count


class Stage(Section, frozen=True):
    """One of `stages`: the sizes and scales of training views in a part of the run.

    Attributes:
        until: progress (0..1) at which the stage ends.
        batch: images per batch.
        sizes: (width, height) of the views in pixels; each batch draws one of them.
        scales: smallest and largest scale of a view.
    """

    until: Share
    batch: Count
    sizes: Annotated[tuple[tuple[ViewSide, ViewSide], ...], msgspec.Meta(min_length=1)]
    scales: tuple[Positive, Positive]


class WholeFrameOptions(Section, frozen=True):
    """`whole_frames`: batches, in every stage, whose views each show a whole frame.

    Attributes:
        share: of the batches.
        size: (width, height) of the views in pixels.
        batch: images per batch.
    """

    share: Share
    size: tuple[ViewSide, ViewSide]
    batch: Count


class ClipOptions(Section, frozen=True):
    """`clips`: real clips with a teacher's labels, and how often each is drawn."""

    folder: str
    weights: dict[str, Positive]

    def __post_init__(self) -> None:
        check_clips("clips.weights", self.weights)


class RenderedOptions(Section, frozen=True):
    """`rendered`: scenes of the renderer, which knows their true boxes.

    Attributes:
        share: of the samples.
        scenes: of each profile, with the seeds `first_seed`, `first_seed` + 1, ...
    """

    share: Share
    profiles: tuple[str, ...]
    first_seed: Seed
    scenes: Count
    frames_per_scene: Count
    fps: Positive

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.profiles) - set(PROFILES)):
            raise UserError(f"rendered.profiles: there is no '{unknown[0]}': choose among {', '.join(PROFILES)}")


class StreetOptions(Section, frozen=True):
    """`street`: labelled images of many places, split by scene.

    Attributes:
        share: of the samples of a batch; 0 leaves street frames out, of the validation sets, too.
        validation_share: share of the scenes that is for validation.
        split_seed: decides which scenes these are.
        one_scene: beginnings of prefixes; the sources whose prefix begins so are one scene.
    """

    folder: str
    share: Share
    validation_share: Share
    split_seed: Seed
    one_scene: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...]


class ValidationOptions(Section, frozen=True):
    """`held_out`: what a model is evaluated on.

    Attributes:
        frames_per_clip: frames of each clip, with and without labels.
        frames_per_profile: rendered scenes of each profile.
        frames_per_street_scene: frames of each street scene, at most.
        consecutive: consecutive frames of each clip, for its steadiness.
        played: clips of the manifest that are evaluated as runs play them, without labels.
        folders: further labelled frames that nothing trains on, in the form of `street.folder`; sources are optional.
    """

    frames_per_clip: Count
    frames_per_profile: Count
    frames_per_street_scene: Count
    consecutive: Annotated[int, msgspec.Meta(ge=2)]
    played: tuple[str, ...]
    folders: tuple[str, ...]

    def __post_init__(self) -> None:
        check_clips("held_out.played", self.played)
        names = [Path(folder).resolve().name for folder in self.folders]
        if len(set(names)) < len(names):
            raise UserError(
                f"held_out.folders: two folders have one name ({', '.join(names)}), by which scores are kept"
            )


class ExportOptions(Section, frozen=True):
    """`export`: where the best weights go."""

    path: str


class DetectorTrainingConfig(Section, frozen=True):
    """The configuration of detector training: all of `conf/train_detector.yaml`."""

    model: ModelOptions
    start: StartOptions
    train: TrainOptions
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]
    whole_frames: WholeFrameOptions
    clips: ClipOptions
    rendered: RenderedOptions
    street: StreetOptions
    held_out: ValidationOptions
    export: ExportOptions
    mlflow: MlflowOptions

    def __post_init__(self) -> None:
        if self.rendered.share + self.street.share > 1:
            raise UserError(
                f"rendered.share={self.rendered.share:g} and street.share={self.street.share:g} are more than 1 "
                "together: lower one of them"
            )
        check_start(self.model)
