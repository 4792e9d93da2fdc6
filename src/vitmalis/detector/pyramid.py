"""The simple feature pyramid of ViTDet (https://arxiv.org/abs/2203.16527): every level is made from the last map alone.

Parameter names are detectron2's (`net.*` and `simfp_2.*` .. `simfp_5.*`, numbered by the logarithm of the stride).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from vitmalis.detector.adapters.model import MixedResolutionViT
from vitmalis.detector.batched_layout import Mixed
from vitmalis.detector.config import DetectorConfig, PyramidConfig
from vitmalis.detector.stems import ChannelNorm
from vitmalis.detector.vit import ViT

STAGES = {4: "simfp_2", 8: "simfp_3", 16: "simfp_4", 32: "simfp_5"}


class NormedConv2d(nn.Conv2d):
    """A convolution without bias that keeps the size, and a norm over channels."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H, W)."""
        return self.norm(super().forward(x))


def pyramid_stage(stride: int, width: int, channels: int) -> nn.Sequential:
    """Layers that resample a map (B, width, H, W) of stride 16 to (B, channels, H', W') of another stride."""
    resample: list[nn.Module]
    if stride == 4:
        resample = [
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            ChannelNorm(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        ]
        width //= 4
    elif stride == 8:
        resample = [nn.ConvTranspose2d(width, width // 2, 2, stride=2)]
        width //= 2
    elif stride == 16:
        resample = []
    else:
        resample = [nn.MaxPool2d(2)]
    return nn.Sequential(*resample, NormedConv2d(width, channels, 1), NormedConv2d(channels, channels, 3))


class Backbone(nn.Module, ABC):
    """A vision transformer and a feature pyramid on top of it.

    Attributes:
        net: the transformer, ours or another library's that `adapters.wrap` gave mixed resolution.
    """

    net: ViT | MixedResolutionViT

    @property
    def vit(self) -> ViT:
        """The transformer of a built-in model; raises `TypeError` where it is another library's."""
        if not isinstance(self.net, ViT):
            raise TypeError("the transformer is another library's")
        return self.net

    @abstractmethod
    def pyramid(self, features: Tensor) -> list[Tensor]:
        """Map features (B, C, H, W) to the levels of the pyramid, each (B, channels, H_l, W_l), finest first."""

    def forward(self, images: Tensor, layout: Mixed | None = None, restoration_point: int = 0) -> list[Tensor]:
        """Map normalised images (B, 3, H, W) to the levels of the pyramid; see `ViT.forward`."""
        return self.pyramid(self.net(images, layout, restoration_point))


class ViTDetBackbone(Backbone):
    """A transformer under ViTDet's simple feature pyramid.

    Attributes:
        strides: pixels per cell of each level of the pyramid, rising.
        channels: channels of every level.
    """

    def __init__(self, net: ViT | MixedResolutionViT, embed_dim: int, pyramid: PyramidConfig) -> None:
        super().__init__()
        self.net = net
        self._stages = [STAGES[stride] for stride in pyramid.strides]
        for stride, name in zip(pyramid.strides, self._stages, strict=True):
            self.add_module(name, pyramid_stage(stride, embed_dim, pyramid.channels))
        self.channels = pyramid.channels
        self.strides = (*pyramid.strides, 2 * pyramid.strides[-1])

    @classmethod
    def of(cls, config: DetectorConfig) -> ViTDetBackbone:
        """The backbone of a built-in detector, freshly initialised."""
        return cls(ViT(config.vit), config.vit.embed_dim, config.pyramid)

    def pyramid(self, features: Tensor) -> list[Tensor]:
        """Map features (B, C, H, W) to levels (B, channels, H_l, W_l), finest first; the last is every other cell."""
        levels = [self.get_submodule(name)(features) for name in self._stages]
        return [*levels, levels[-1][..., ::2, ::2]]
