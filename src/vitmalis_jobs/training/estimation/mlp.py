"""Training of one MLP estimator (paper, equations 1 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.estimation.estimators import MlpEstimator, Target
from vitmalis_jobs.training.estimation.monotone import DIRECTIONS
from vitmalis_jobs.training.estimation.sample_set import SampleSet

Loss = Literal["mse", "huber", "l1"]
LossFunction = Callable[..., Tensor]

LOSSES: dict[Loss, LossFunction] = {
    "mse": nn.functional.mse_loss,
    "huber": nn.functional.huber_loss,
    "l1": nn.functional.l1_loss,
}
TARGET_LOSSES: dict[Target, tuple[Loss, ...]] = {"payload_bytes": ("mse", "huber", "l1"), "f1": ("mse",)}
"""Losses that suit a target. The F1 is skewed, with a peak at 1: only the squared error is least at its mean."""


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
        loss: "mse", "huber" (at one standard deviation) or "l1", on the standardised target; one of `TARGET_LOSSES`.
        log_target: fit the logarithm of the target, so that relative errors count.
    """

    widths: tuple[int, ...] = (128, 64)
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    epochs: int = 60
    batch: int = 512
    dropout: float = 0.0
    input_noise: float = 0.05
    loss: Loss = "mse"
    log_target: bool = False


class SignedLinear(nn.Linear):
    """A linear layer whose output rises with some inputs and falls with others: their weights keep a sign.

    Args:
        inputs, outputs: numbers of features.
        signs: +1, -1 or 0 (any weight) for each input.
    """

    signs: Tensor

    def __init__(self, inputs: int, outputs: int, signs: Sequence[int]) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("signs", torch.tensor(signs, dtype=self.weight.dtype))

    @property
    def signed_weight(self) -> Tensor:
        """The weights in use, (outputs, inputs)."""
        return torch.where(self.signs == 0, self.weight, self.signs * self.weight.abs())

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, inputs) to outputs (n, outputs)."""
        return nn.functional.linear(features, self.signed_weight, self.bias)


def network(widths: Sequence[int], dropout: float, signs: Sequence[int]) -> nn.Sequential:
    """An MLP with dropout and one output; monotone in the inputs that have a sign.

    Args:
        widths: of the hidden layers.
        dropout: share of hidden activations dropped in training.
        signs: for each input, whether the output rises with it (1), falls (-1) or either (0). With any sign, the
            weights behind the first layer are positive and the activations hyperbolic tangents, as with ReLUs and
            positive weights the output would be convex. Without, they are ReLUs.
    """
    monotone = any(signs)
    layers: list[nn.Module] = []
    for width in (*widths, 1):
        layers += [SignedLinear(len(signs), width, signs), nn.Tanh() if monotone else nn.ReLU(), nn.Dropout(dropout)]
        signs = [int(monotone)] * width
    return nn.Sequential(*layers[:-2])


def fit_mlp(rows: SampleSet, hyperparameters: MlpHyperparameters, seed: int, **origin: Any) -> MlpEstimator:
    """Train an MLP on the CPU, reproducibly for a seed; `origin` has model, model_id and provenance.

    It learns the relative values of the rows with their weights. One for the F1 is monotone, see `DIRECTIONS`.
    """
    mean, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale == 0] = 1.0
    values = np.log(rows.values) if hyperparameters.log_target else rows.relative
    output_mean = float(np.average(values, weights=rows.weights))
    output_scale = float(np.sqrt(np.average((values - output_mean) ** 2, weights=rows.weights))) or 1.0
    inputs = torch.from_numpy(((rows.features - mean) / scale).astype(np.float32))
    targets = torch.from_numpy(((values - output_mean) / output_scale).astype(np.float32))[:, None]
    weights = torch.from_numpy((rows.weights / rows.weights.mean()).astype(np.float32))[:, None]
    signs = [DIRECTIONS.get(name, 0) if rows.target == "f1" else 0 for name in rows.names]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(hyperparameters.widths, hyperparameters.dropout, signs)
        _optimise(net, inputs, targets, weights, hyperparameters)
    if not hyperparameters.log_target:
        with torch.inference_mode():
            fitted = net(inputs)[:, 0].double().numpy() * output_scale + output_mean
        output_mean += rows.level_of(fitted)
    return export(
        net, target=rows.target, features=rows.names, mean=mean, scale=scale, output_mean=output_mean,
        output_scale=output_scale, output="log" if hyperparameters.log_target else "identity", **origin,
    )  # fmt: skip


def _optimise(net: nn.Sequential, inputs: Tensor, targets: Tensor, weights: Tensor, chosen: MlpHyperparameters) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay)
    batches = math.ceil(len(inputs) / chosen.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, chosen.epochs * batches)
    loss_of = LOSSES[chosen.loss]
    net.train()
    for _ in range(chosen.epochs):
        for rows in torch.randperm(len(inputs)).chunk(batches):
            batch = inputs[rows]
            if chosen.input_noise:
                batch = batch + chosen.input_noise * torch.randn_like(batch)
            optimiser.zero_grad(set_to_none=True)
            losses = loss_of(net(batch), targets[rows], reduction="none")
            (weights[rows] * losses).mean().backward()
            optimiser.step()
            schedule.step()
    net.eval()


def export(net: nn.Sequential, **fields: Any) -> MlpEstimator:
    """Convert a network to an estimator that needs NumPy only; `fields` are the estimator's other fields."""
    layers = [layer for layer in net if isinstance(layer, SignedLinear)]
    return MlpEstimator(
        weights=tuple(np.ascontiguousarray(layer.signed_weight.detach().numpy().T) for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        activation="tanh" if any(isinstance(layer, nn.Tanh) for layer in net) else "relu",
        **fields,
    )
