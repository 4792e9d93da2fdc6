"""The parameters of a transformer as the fast path uses them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.fused.kernels.int8 import FusedInt8Linear
from vitmalis.detector.fused.kernels.rows import Norm
from vitmalis.detector.fused.kernels.tables import window_table
from vitmalis.detector.int8 import Int8Linear
from vitmalis.detector.positions import relative_table
from vitmalis.detector.stems import HierarchicalPatchEmbed, PatchEmbed
from vitmalis.detector.vit import Block, ViT


class Linear(NamedTuple):
    """A linear layer's weight (out, in) and bias (out,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module, dtype: torch.dtype) -> Linear:
        """Take the parameters of a linear layer, as another type."""
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight.detach().to(dtype).contiguous(), layer.bias.detach().to(dtype))

    @classmethod
    def of_patches(cls, layer: nn.Module, dtype: torch.dtype) -> Linear:
        """Take a convolution whose stride is its kernel: a product with the pixels (y, x, channel) under the kernel."""
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        weight = layer.weight.detach().permute(0, 2, 3, 1).flatten(1)
        return cls(weight.to(dtype).contiguous(), layer.bias.detach().to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias)


def _product(layer: nn.Module, dtype: torch.dtype) -> Linear | FusedInt8Linear:
    return FusedInt8Linear(layer) if isinstance(layer, Int8Linear) else Linear.of(layer, dtype)


class BlockWeights:
    """The parameters of a block.

    Attributes:
        norm1, norm2, qkv, proj, fc1, fc2: its layers.
        windowed: it attends inside windows.
        window_table: relative positions of a windowed block, see the function of that name; else None.
        relative: float32 tables (2 * S - 1, D) of rows and columns of a global block; else None. Both are None where
            there are no relative positions.
    """

    def __init__(self, block: Block, window: int, dtype: torch.dtype) -> None:
        attention, mlp = block.attn, block.mlp
        self.norm1, self.norm2 = Norm.of(block.norm1), Norm.of(block.norm2)
        self.qkv, self.proj = _product(attention.qkv, dtype), _product(attention.proj, dtype)
        self.fc1, self.fc2 = _product(mlp.get_submodule("fc1"), dtype), _product(mlp.get_submodule("fc2"), dtype)
        self.windowed = attention.windowed
        self.window_table: Tensor | None = None
        self.relative: tuple[Tensor, Tensor] | None = None
        if attention.rel_pos_h is None or attention.rel_pos_w is None:
            return
        by_row, by_col = attention.rel_pos_h.detach().float(), attention.rel_pos_w.detach().float()
        if self.windowed:
            tables = relative_table(by_row, window), relative_table(by_col, window)
            self.window_table = window_table(*tables).to(dtype)
        else:
            self.relative = by_row, by_col


class LinearStem:
    """One product with all pixels of a patch.

    Attributes:
        order: int32 (patch * patch * 3,), which value of a patch (patch, patch, 3) each place of the input holds.
    """

    def __init__(self, stem: PatchEmbed, dtype: torch.dtype) -> None:
        self._proj = Linear.of_patches(stem.proj, dtype)
        self.order = torch.arange(self._proj.weight.shape[1], dtype=torch.int32, device=self._proj.weight.device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels (T, patch * patch * 3) to tokens (T, C)."""
        return self._proj(pixels)


class HierarchicalStem:
    """Products with 4 x 4 pixels, 2 x 2 of their results, and what remains of a patch; norm and GELU between.

    Attributes:
        order: as of `LinearStem`: the pixels under one kernel next to each other, and so the results under one.
    """

    def __init__(self, stem: HierarchicalPatchEmbed, patch_px: int, dtype: torch.dtype) -> None:
        self._steps = [Linear.of_patches(stem.proj[index], dtype) for index in (0, 3, 6)]
        self._norms = [_cast(stem.proj[index], dtype) for index in (1, 4)]
        last = patch_px // 8
        values = np.arange(3 * patch_px**2).reshape(
            last, 2, 4, last, 2, 4, 3
        )  # y and x, each in three steps, and channel
        order = values.transpose(0, 3, 1, 4, 2, 5, 6).ravel().astype(np.int32)
        self.order = torch.from_numpy(order).to(self._steps[0].weight.device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels (T, patch * patch * 3) to tokens (T, C)."""
        x = pixels
        for step, norm in zip(self._steps, [*self._norms, None], strict=True):
            x = step(x.reshape(-1, step.weight.shape[1]))
            if norm is not None:
                x = F.gelu(F.layer_norm(x, norm.gain.shape, norm.gain, norm.bias, norm.eps))
        return x


def _cast(layer: nn.Module, dtype: torch.dtype) -> Norm:
    assert isinstance(layer, nn.LayerNorm)
    return Norm(layer.weight.detach().to(dtype), layer.bias.detach().to(dtype), layer.eps)


class FusedWeights:
    """The parameters of a transformer in the type that its products run in, held once for all frame sizes.

    Args:
        net: the transformer; its own parameters stay as they are.
        dtype: of products and attention, bfloat16 or float32; norms and residual sums are float32 in both. Layers that
            are `Int8Linear` multiply in int8.

    Attributes:
        config, dtype: as given.
        device: where the parameters are.
        stem: from pixels to tokens.
        blocks: the blocks, in order.
        positions: makes absolute positions of a grid, see `ViT.positions`.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, net: ViT, dtype: torch.dtype) -> None:
        self.config, self.dtype, self.device = net.config, dtype, net.pos_embed.device
        self.positions = net.positions
        stem = net.patch_embed
        self.stem: LinearStem | HierarchicalStem
        if isinstance(stem, PatchEmbed):
            self.stem = LinearStem(stem, dtype)
        else:
            self.stem = HierarchicalStem(stem, net.config.patch_px, dtype)
        self.blocks = [
            BlockWeights(block, net.config.window, dtype) for block in net.modules() if isinstance(block, Block)
        ]
