"""The training loop: one optimiser step per batch, until the configured hours or steps are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.detector import BatchTargets
from vitmalis.detector.fcos import FcosDetector
from vitmalis_jobs.training.detection.config import TrainOptions
from vitmalis_jobs.training.detection.mask_sampling import random_mixture
from vitmalis_jobs.training.detection.state import TrainingState, learning_rate_factor
from vitmalis_jobs.training.detection.stream import TrainingStream, loader


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


def train_batch(state: TrainingState, images: Tensor, targets: BatchTargets, options: TrainOptions) -> dict[str, float]:
    """Take one optimiser step on a batch.

    Args:
        state: is changed in place.
        images: uint8 (B, 3, H, W).
        targets: of the same images.
        options: of the optimisation.

    Returns:
        The losses and the gradient's norm.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    model = state.model
    assert isinstance(model, FcosDetector)
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + state.step)
    rng = np.random.default_rng([options.seed, state.step])
    grid = model.config.region_grid(images.shape[2], images.shape[3])
    mixture = random_mixture(rng, grid, model.config.geometry.restoration_points, options.mixed_share)
    with window_of_positions(model, generator), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        outputs = model(images.float(), *mixture)
    losses = model.loss(outputs, targets)
    total = losses["classification"] + options.box_weight * losses["boxes"] + losses["centreness"]
    if not torch.isfinite(total):
        raise FloatingPointError(f"loss is {float(total.detach())} at step {state.step}")
    model.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
    for optimiser in state.optimisers:
        optimiser.step()
    state.step += 1
    state.update_average(options.ema_decay)
    return {name: float(value.detach()) for name, value in losses.items()} | {"gradient_norm": float(norm)}


def train(
    state: TrainingState,
    stream: TrainingStream,
    options: TrainOptions,
    after_step: Callable[[dict[str, float], float], None],
) -> None:
    """Train until the run has its configured length.

    Args:
        state: is changed in place; the stream continues at its step.
        stream: training images.
        options: of the optimisation, with the length of the run.
        after_step: called with the losses and the progress after each batch; its time does not count as training time.
    """
    batches = iter(loader(stream, state.step, lambda step: options.progress(step, state.seconds), options.workers))
    state.model.train()
    while (progress := options.progress(state.step, state.seconds)) < 1:
        began_s = time.monotonic()
        batch = next(batches)
        learning_rate = options.learning_rate * learning_rate_factor(progress, options.warm_up)
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
        losses = train_batch(state, batch.images, batch.targets, options)
        state.seconds += time.monotonic() - began_s
        after_step(losses | {"learning_rate": learning_rate}, progress)
