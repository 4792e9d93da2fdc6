"""Linear layers by the fastest product that PyTorch has for them."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear`, which on a CPU computes fp32 predictions with oneDNN instead of MKL.

    On an AMD EPYC that took 3 % off `vitdet_tiny` (`validation.inference_speed`) and about a tenth off ViT-B.

    The operator is the one that `torch.compile` chooses. It has no gradients, so training never takes it.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if ONEDNN and self._predicts(tokens):
            return torch.ops.mkldnn._linear_pointwise(tokens, self.weight, self.bias, "none", [], "")
        return super().forward(tokens)

    def gelu(self, tokens: Tensor) -> Tensor:
        """The same and the exact GELU of it, without a second pass through memory where that can be had."""
        if ONEDNN and self._predicts(tokens):
            return torch.ops.mkldnn._linear_pointwise(tokens, self.weight, self.bias, "gelu", [], "none")
        return F.gelu(super().forward(tokens))

    def _predicts(self, tokens: Tensor) -> bool:
        return (
            tokens.device.type == "cpu"
            and tokens.dtype == self.weight.dtype == torch.float32
            and not (torch.is_grad_enabled() and (tokens.requires_grad or self.weight.requires_grad))
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )


class Perceptron(nn.Sequential):
    """Two linear layers with a GELU between, four times as wide inside."""

    fc1: Linear
    fc2: Linear

    def __init__(self, width: int) -> None:
        super().__init__(OrderedDict(fc1=Linear(width, 4 * width), act=nn.GELU(), fc2=Linear(4 * width, width)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.fc2(self.fc1.gelu(tokens))
