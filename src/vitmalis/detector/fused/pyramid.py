"""The simple feature pyramid with products in place of transposed and 1 x 1 convolutions; maps are (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.pyramid import STAGES, NormedConv2d, ViTDetBackbone
from vitmalis.detector.stems import ChannelNorm

Layer = Callable[[Tensor], Tensor]


def norm(layer: nn.LayerNorm, dtype: torch.dtype) -> Layer:
    """A norm over the last axis with weights of a type; mean and variance are fp32 inside."""
    weight, bias = layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
    return lambda x: F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)


def linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Layer:
    """A product with weights (out, in) of a type."""
    weight = weight.detach().to(dtype).contiguous()
    bias = None if bias is None else bias.detach().to(dtype)
    return lambda x: F.linear(x, weight, bias)


def convolution(layer: nn.Conv2d, dtype: torch.dtype) -> Layer:
    """A convolution that keeps the size, of maps (N, H, W, C), with weights of a type."""
    weight = layer.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def convolve(x: Tensor) -> Tensor:
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=layer.padding).permute(0, 2, 3, 1)

    return convolve


def shuffled(x: Tensor, times: int) -> Tensor:
    """Spread channels over the cells that they make: (B, H, W, 4 ** times * C) to (B, 2 ** times * H, ..., C)."""
    batch, rows, cols, _ = x.shape
    x = x.view(batch, rows, cols, *(2, 2) * times, -1)
    end = 3 + 2 * times
    x = x.permute(0, 1, *range(3, end, 2), 2, *range(4, end, 2), end)
    return x.reshape(batch, rows << times, cols << times, -1)


def upsampling(layer: nn.ConvTranspose2d, then: nn.Conv2d | None, dtype: torch.dtype) -> Layer:
    """A transposed convolution of 2 x 2 cells, and the 1 x 1 one after it, as a product (..., in) to (..., 4 * out)."""
    assert layer.bias is not None
    weight = layer.weight.detach().float().permute(2, 3, 1, 0)  # (2, 2, out, in)
    bias = layer.bias.detach().float()
    if then is not None:
        one = then.weight.detach().float()[:, :, 0, 0]
        weight, bias = one @ weight, one @ bias
    return linear(weight.flatten(0, 2), bias.repeat(4), dtype)


class Stage:
    """One level of the pyramid: the map is resampled, brought to the pyramid's channels, and convolved by 3 x 3."""

    def __init__(self, layers: nn.Sequential, dtype: torch.dtype) -> None:
        *resampling, one, three = layers
        assert isinstance(one, NormedConv2d)
        assert isinstance(three, NormedConv2d)
        up = [layer for layer in resampling if isinstance(layer, nn.ConvTranspose2d)]
        self._times = len(up)
        self._pooled = any(isinstance(layer, nn.MaxPool2d) for layer in resampling)
        self._first: tuple[Layer, Layer] | None = None
        if len(up) == 2:
            self._first = upsampling(up[0], None, dtype), norm(cast(ChannelNorm, resampling[1]), dtype)
        self._one = upsampling(up[-1], one, dtype) if up else linear(one.weight[:, :, 0, 0], None, dtype)
        self._one_norm = norm(one.norm, dtype)
        self._three, self._three_norm = convolution(three, dtype), norm(three.norm, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, rows, cols, C) to (B, H, W, channels)."""
        if self._pooled:
            x = F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        cells = x
        if self._first is not None:
            up, up_norm = self._first
            cells = F.gelu(up_norm(up(x).unflatten(-1, (4, -1))))  # (B, rows, cols, 4, C / 2)
        cells = self._one(cells).unflatten(-1, (4 if self._times else 1, -1))
        cells = shuffled(self._one_norm(cells).flatten(3), self._times)
        return self._three_norm(self._three(cells))


class FusedPyramid:
    """The pyramid of a backbone, its weights in the type that products run in.

    A transposed convolution whose kernel equals its stride is a product, and the 1 x 1 convolution after it is part of
    the same one.
    """

    def __init__(self, backbone: ViTDetBackbone, dtype: torch.dtype) -> None:
        self._dtype = dtype
        strides = backbone.strides[:-1]
        self._stages = [Stage(cast(nn.Sequential, backbone.get_submodule(STAGES[stride])), dtype) for stride in strides]

    def __call__(self, features: Tensor) -> list[Tensor]:
        """Map features (B, C, rows, cols) to levels (B, H_l, W_l, channels), finest first."""
        x = features.permute(0, 2, 3, 1).to(self._dtype)
        levels = [stage(x) for stage in self._stages]
        return [*levels, levels[-1][:, ::2, ::2]]  # as `ViTDetBackbone.pyramid`
