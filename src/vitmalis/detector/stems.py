"""The first layers of a vision transformer: from the pixels of a patch to its token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """One linear projection of each patch."""

    def __init__(self, patch_px: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_px, stride=patch_px)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, C)."""
        return self.proj(images).permute(0, 2, 3, 1).contiguous()


class HierarchicalPatchEmbed(nn.Module):
    """The hMLP stem (https://arxiv.org/abs/2203.09795): projections of 4, 2 and the remaining pixels, GELU between.

    Kernels equal their strides, so no pixel crosses a patch border: a token depends on the pixels of its patch only.
    """

    def __init__(self, patch_px: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, embed_dim // 4, 4, stride=4),
            ChannelNorm(embed_dim // 4),
            nn.GELU(),
            nn.Conv2d(embed_dim // 4, embed_dim // 2, 2, stride=2),
            ChannelNorm(embed_dim // 2),
            nn.GELU(),
            nn.Conv2d(embed_dim // 2, embed_dim, patch_px // 8, stride=patch_px // 8),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, C).

        In fp32 on a CPU, also under autocast: on CPUs with AMX, PyTorch 2.14's bfloat16 convolution reads uninitialised
        memory where a result is one column wide, as in a strip of patches, and channels are no multiple of 32.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        if images.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.proj(images).permute(0, 2, 3, 1)
        return self.proj(images).permute(0, 2, 3, 1)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); the result is channels-last in memory, where convolutions are fastest."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
