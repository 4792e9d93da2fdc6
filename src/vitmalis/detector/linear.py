"""Linear layers by the fastest product that PyTorch has for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear`, which on a CPU computes fp32 predictions with oneDNN instead of MKL: 10 % faster on AMD's cores.

    The operator is the one that `torch.compile` chooses. It has no gradients, so training never takes it.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if ONEDNN and self._predicts(tokens):
            return torch.ops.mkldnn._linear_pointwise(tokens, self.weight, self.bias, "none", [], "")
        return super().forward(tokens)

    def _predicts(self, tokens: Tensor) -> bool:
        return (
            tokens.device.type == "cpu"
            and tokens.dtype == self.weight.dtype == torch.float32
            and not (torch.is_grad_enabled() and (tokens.requires_grad or self.weight.requires_grad))
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )
