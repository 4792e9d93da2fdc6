"""The training loop: batches in, a moving average out, at a pace that ends when the time or the steps end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.mask_sampling import random_mixture
from vitmalis_jobs.training.detection.state import TrainingState, learning_rate_factor
from vitmalis_jobs.training.detection.stream import TrainingStream, loader


@dataclass(frozen=True)
class Schedule:
    """How to optimise.

    Attributes:
        hours: length of the run in hours of training time, or None if `steps` counts.
        steps: length of the run in batches, or None if `hours` counts.
        learning_rate, weight_decay, warm_up, ema_decay, clip_norm: of AdamW, the schedule (share of the run), the
            average and the gradient.
        box_weight: how much the box loss counts, relative to the other two.
        mixed_share: share of the batches in which random regions are downsampled (see `random_mixture`).
        bf16: automatic mixed precision on the CPU.
        seed: of everything random.
        workers: processes that make batches.
    """

    hours: float | None
    steps: int | None
    learning_rate: float
    weight_decay: float
    warm_up: float
    ema_decay: float
    clip_norm: float
    box_weight: float
    mixed_share: float
    bf16: bool
    seed: int
    workers: int

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is over, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (3600 * (self.hours or 1.0)))


@contextmanager
def window_of_positions(model: FcosDetector, generator: torch.Generator) -> Iterator[None]:
    """Within: give a crop the positions of a random window of a full frame.

    Squeezing the whole table onto a crop, as another image size would, teaches the model distances that a full frame
    does not have. A frame as large as the table gets the table.
    """
    vit = model.backbone.net
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


def train_batch(
    state: TrainingState, images: Tensor, targets: list[dict[str, Tensor]], plan: Schedule
) -> dict[str, float]:
    """One optimiser step.

    Args:
        state: is changed in place.
        images: uint8 (B, 3, H, W).
        targets: see `FcosDetector.loss`.

    Returns:
        The losses and the gradient's norm.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    model = state.model
    assert isinstance(model, FcosDetector)
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    rng = np.random.default_rng([plan.seed, state.step])
    grid = model.config.region_grid(images.shape[2], images.shape[3])
    mixture = random_mixture(rng, grid, model.config.vit.subsets, plan.mixed_share)
    with window_of_positions(model, generator), torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
        outputs = model(images.float(), *mixture)
    losses = model.loss(outputs, targets)
    total = losses["classification"] + plan.box_weight * losses["boxes"] + losses["centreness"]
    if not torch.isfinite(total):
        raise FloatingPointError(f"loss is {float(total.detach())} at step {state.step}")
    model.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
    for optimiser in state.optimisers:
        optimiser.step()
    state.step += 1
    state.follow(plan.ema_decay)
    return {name: float(value.detach()) for name, value in losses.items()} | {"gradient_norm": float(norm)}


def train(
    state: TrainingState,
    stream: TrainingStream,
    plan: Schedule,
    after_step: Callable[[dict[str, float], float], None],
) -> None:
    """Train until the plan is fulfilled.

    Args:
        state: is changed in place; where it stands is where the stream goes on.
        stream: training images.
        plan: how.
        after_step: called with the losses and the progress after each batch; its time does not count.
    """
    batches = iter(loader(stream, state.step, lambda step: plan.progress(step, state.seconds), plan.workers))
    state.model.train()
    while (progress := plan.progress(state.step, state.seconds)) < 1:
        began = time.monotonic()
        batch = next(batches)
        factor = learning_rate_factor(progress, plan.warm_up)
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * factor
        losses = train_batch(state, batch.images, batch.targets, plan)
        state.seconds += time.monotonic() - began
        after_step(losses | {"learning_rate": plan.learning_rate * factor}, progress)
