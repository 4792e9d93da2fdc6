"""The training loop: one optimiser step per batch, until the configured hours or steps are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.batches import Batch, Batches, Progress
from vitmalis_jobs.training.detection.config import LoopOptions, TrainOptions
from vitmalis_jobs.training.detection.mask_sampling import random_mixture
from vitmalis_jobs.training.detection.state import TrainingState, learning_rate_factor


@contextmanager
def window_of_positions(model: FcosDetector, generator: torch.Generator) -> Iterator[None]:
    """Context in which a crop gets the position embeddings of a random window of a full frame.

    Resizing the whole table to a crop, as for another image size, would teach the model distances that do not occur in
    a full frame. A frame as large as the table gets the whole table.
    """
    vit = model.backbone.vit
    whole = vit.positions
    grid_rows, grid_columns = vit.config.position_grid

    def positions(rows: int, cols: int) -> Tensor:
        if rows > grid_rows or cols > grid_columns:
            return whole(rows, cols)
        top = int(torch.randint(grid_rows - rows + 1, (), generator=generator))
        left = int(torch.randint(grid_columns - cols + 1, (), generator=generator))
        return whole(grid_rows, grid_columns)[top : top + rows, left : left + cols]

    vit.positions = positions  # type: ignore[method-assign]
    try:
        yield
    finally:
        del vit.positions


@dataclass(frozen=True)
class StepReport:
    """What happened in one step.

    Attributes:
        values: losses and the gradient's norm by name, on the training device, which may still compute them.
        learning_rate: of the step.
        progress: share of the run that was over before the step, 0..1.
        views: training images of the batch.
        seconds: elapsed in the step.
        waited_s: the part of it before the batch was there.
    """

    values: dict[str, Tensor]
    learning_rate: float
    progress: float
    views: int
    seconds: float
    waited_s: float


def train_batch(state: TrainingState, batch: Batch, options: TrainOptions) -> dict[str, Tensor]:
    """Take one optimiser step on a batch, without waiting for the device.

    Args:
        state: is changed in place.
        batch: on the device of the model.
        options: of the optimisation.

    Returns:
        The losses and the gradient's norm; the caller finds out whether they are finite.
    """
    model, images = state.model, batch.images
    assert isinstance(model, FcosDetector)
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + state.step)
    rng = np.random.default_rng([options.seed, state.step])
    grid = model.config.region_grid(images.shape[2], images.shape[3])
    mixture = random_mixture(rng, grid, model.config.geometry.restoration_points, options.mixed_share)
    # A whole frame gets the positions that it gets in use: the table, resized.
    positions = nullcontext() if batch.whole_frames else window_of_positions(model, generator)
    with positions, torch.autocast(images.device.type, torch.bfloat16, enabled=options.bf16):
        outputs = model(images.float(), *mixture)
    losses = model.loss(outputs, batch.targets)
    total = losses["classification"] + options.box_weight * losses["boxes"] + losses["centreness"]
    norm = optimise(state, total, options)
    return {name: value.detach() for name, value in losses.items()} | {"gradient_norm": norm}


def optimise(state: TrainingState, loss: Tensor, options: LoopOptions) -> Tensor:
    """Take one optimiser step down the gradient of a loss, and return the gradient's norm."""
    state.model.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), options.clip_norm)
    for optimiser in state.optimisers:
        optimiser.step()
    state.step += 1
    state.update_average(options.ema_decay)
    return norm.detach()


def train(
    state: TrainingState, batches: Batches, options: TrainOptions, after_step: Callable[[StepReport], None]
) -> None:
    """Train a detector until the run has its configured length; the arguments are those of `train_with`."""
    train_with(lambda batch: train_batch(state, batch, options), state, batches, options, after_step)


class TrainingImages(Protocol):
    """A batch, which has as many training images as `images` has rows."""

    @property
    def images(self) -> Tensor:
        """The images (B, 3, height, width)."""


BatchKind = TypeVar("BatchKind", bound=TrainingImages)
Supplied = TypeVar("Supplied", covariant=True)


class Supply(Protocol[Supplied]):
    """Where batches come from, see `Batches`."""

    def from_batch(self, first: int, progress: Progress) -> Iterator[Supplied]:
        """Yield the batches in order, from batch number `first` on, without end."""


def train_with(
    take_step: Callable[[BatchKind], dict[str, Tensor]],
    state: TrainingState,
    batches: Supply[BatchKind],
    options: LoopOptions,
    after_step: Callable[[StepReport], None],
) -> None:
    """Train until the run has its configured length.

    Args:
        take_step: takes a step of the state's optimisers on a batch, and returns its losses.
        state: is changed in place; its step is the first batch.
        batches: training images.
        options: of the optimisation, with the length of the run.
        after_step: called after each batch; its time does not count as training time.
    """
    supply = batches.from_batch(state.step, lambda step: options.progress(step, state.seconds))
    state.model.train()
    while (progress := options.progress(state.step, state.seconds)) < 1:
        began_s = time.monotonic()
        batch = next(supply)
        waited_s = time.monotonic() - began_s
        learning_rate = options.learning_rate * learning_rate_factor(progress, options.warm_up)
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
        values = take_step(batch)
        seconds = time.monotonic() - began_s
        state.seconds += seconds
        after_step(StepReport(values, learning_rate, progress, len(batch.images), seconds, waited_s))
