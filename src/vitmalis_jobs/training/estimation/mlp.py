"""Training of one MLP estimator (paper, equations 1 and 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.estimation.estimators import MlpEstimator
from vitmalis_jobs.training.estimation.sample_set import SampleSet

Loss = Literal["mse", "huber", "l1"]

LOSSES: dict[str, type[nn.Module]] = {"mse": nn.MSELoss, "huber": nn.HuberLoss, "l1": nn.L1Loss}


@dataclass(frozen=True)
class MlpHyperparameters:
    """Hyperparameters of an MLP; the default architecture is the paper's.

    Attributes:
        widths: widths of the hidden layers; one output follows.
        learning_rate, weight_decay: of AdamW; the learning rate falls to 0 along a half cosine.
        epochs: passes over the samples.
        batch: samples per step.
        dropout: share of hidden activations that is dropped in training.
        input_noise: standard deviation of Gaussian noise on standardised inputs in training. The content features are
            the same in all samples of a frame, so that an MLP could memorise frames without it.
        loss: "mse", "huber" (at one standard deviation) or "l1", on the standardised target.
        log_target: fit the logarithm of the target, so that relative errors count.
    """

    widths: tuple[int, ...] = (128, 64)
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    epochs: int = 60
    batch: int = 512
    dropout: float = 0.0
    input_noise: float = 0.05
    loss: Loss = "huber"
    log_target: bool = False


def network(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """An MLP with ReLUs, dropout and one output."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


def fit_mlp(rows: SampleSet, hyperparameters: MlpHyperparameters, seed: int, **origin: Any) -> MlpEstimator:
    """Train an MLP on the CPU, reproducibly for a seed; `origin` has model, model_id and provenance."""
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale == 0] = 1.0
    values = np.log(rows.values) if hyperparameters.log_target else rows.values
    output_mean, output_scale = float(values.mean()), float(values.std()) or 1.0
    inputs = torch.from_numpy(((rows.features - mean) / scale).astype(np.float32))
    targets = torch.from_numpy(((values - output_mean) / output_scale).astype(np.float32))[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(inputs.shape[1], hyperparameters.widths, hyperparameters.dropout)
        _optimise(net, inputs, targets, hyperparameters)
    return export(
        net, target=rows.target, features=rows.names, mean=mean, scale=scale, output_mean=output_mean,
        output_scale=output_scale, output="log" if hyperparameters.log_target else "identity", **origin,
    )  # fmt: skip


def _optimise(net: nn.Sequential, inputs: Tensor, targets: Tensor, chosen: MlpHyperparameters) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay)
    batches = math.ceil(len(inputs) / chosen.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, chosen.epochs * batches)
    loss_of = LOSSES[chosen.loss]()
    net.train()
    for _ in range(chosen.epochs):
        for rows in torch.randperm(len(inputs)).chunk(batches):
            batch = inputs[rows]
            if chosen.input_noise:
                batch = batch + chosen.input_noise * torch.randn_like(batch)
            optimiser.zero_grad(set_to_none=True)
            loss_of(net(batch), targets[rows]).backward()
            optimiser.step()
            schedule.step()
    net.eval()


def export(net: nn.Sequential, **fields: Any) -> MlpEstimator:
    """Convert a network to an estimator that needs NumPy only; `fields` are the estimator's other fields."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    return MlpEstimator(
        weights=tuple(np.ascontiguousarray(layer.weight.detach().numpy().T) for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        **fields,
    )
