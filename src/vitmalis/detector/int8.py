"""Linear layers whose products run in int8, with scales that are found for each token as it comes.

Weights have a scale for each output channel, inputs one for each token, so that the largest magnitude of a row becomes
127. Norms, activations, attention and residual sums stay as they are in bf16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.precision import INT8
from vitmalis.detector.vit import Block

LARGEST = 127
"""Largest magnitude that is used, the same on both sides of zero."""

SMALLEST_SCALE = 1e-12
"""Scale of rows of zeros."""

LEAST_ROWS = 17
"""Fewest rows that cuBLAS multiplies in int8."""


def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scale rows so that their largest magnitude is 127, and round them.

    Args:
        rows: (n, C) of any floating-point type.

    Returns:
        int8 (n, C), and float32 (n, 1): what each row has to be multiplied by.
    """
    exact = rows.float()
    scale = (exact.abs().amax(1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    return (exact / scale).round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer in inference that multiplies int8 numbers and sums their products exactly.

    Attributes:
        weight: int8 (out, in).
        scale: float32 (1, out), of each output channel.
        bias: bfloat16 (out,).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantised(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.register_buffer("bias", layer.bias.detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to bfloat16 (..., out)."""
        rows, scale = quantised(x.flatten(0, -2))
        added = max(0, LEAST_ROWS - len(rows))
        sums = torch._int_mm(F.pad(rows, (0, 0, 0, added)) if added else rows, self.weight.t())[: len(rows)]
        return (sums * scale * self.scale + self.bias).bfloat16().unflatten(0, x.shape[:-1])


def prepare_products(net: nn.Module, precision: str) -> None:
    """Replace the linear layers in the blocks of a transformer, in place, where a precision asks for that."""
    if precision != INT8:
        return
    for block in [module for module in net.modules() if isinstance(module, Block)]:
        for name, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear):
                block.set_submodule(name, Int8Linear(layer))
