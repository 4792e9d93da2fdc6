"""Tokens and floating-point operations of a ViT at mixed resolution, counted and not measured.

A multiplication and an addition count as two operations. Norms, activations and softmax are left out, as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitmalis.detector.config import VitConfig
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask


@dataclass(frozen=True, slots=True)
class VitCost:
    """Cost of one frame in a ViT.

    Attributes:
        tokens: tokens that enter each block.
        stem_flops: of the patch embedding.
        linear_flops: of the linear layers of all blocks.
        attention_flops: of queries times keys, weights times values, and relative positions.
    """

    tokens: tuple[int, ...]
    stem_flops: int
    linear_flops: int
    attention_flops: int

    @property
    def flops(self) -> int:
        """Operations of the stem, the linear layers and attention together."""
        return self.stem_flops + self.linear_flops + self.attention_flops


def vit_cost(
    config: VitConfig, grid: RegionGrid, downsample_mask: BoolMask | None = None, restoration_point: int = 0
) -> VitCost:
    """Count the tokens and operations of `ViT.forward` for one frame.

    Args:
        config: the ViT.
        grid: regions of the frame.
        downsample_mask: bool (rows, cols) of the grid; None for no region.
        restoration_point: 0 to N, where full resolution comes back.

    Raises:
        UserError: the mask does not fit the grid.
    """
    nothing = np.zeros(grid.shape, np.bool_)
    mask = nothing if downsample_mask is None else grid.check(downsample_mask)
    mixed_blocks = config.global_blocks[restoration_point - 1] if restoration_point else 0
    tokens, linear, attention = [], 0, 0
    for index in range(config.depth):
        seen = mask if index < mixed_blocks else nothing
        tokens.append(grid.tokens(seen))
        linear += 24 * tokens[-1] * config.embed_dim**2  # qkv 3, proj 1, MLP 4 + 4 products of embed_dim x embed_dim
        count = _global_attention if index in config.global_blocks else _window_attention
        attention += count(config, grid, seen)
    return VitCost(tuple(tokens), tokens[0] * _stem_per_token(config), linear, attention)


def _global_attention(config: VitConfig, grid: RegionGrid, mask: BoolMask) -> int:
    tokens = grid.tokens(mask)
    coordinates = grid.patch_rows + grid.patch_cols
    if mask.any():
        coordinates += coordinates // grid.factor
    return tokens * config.embed_dim * (4 * tokens + 2 * coordinates * config.relative_positions)


def _window_attention(config: VitConfig, grid: RegionGrid, mask: BoolMask) -> int:
    window = config.window
    slots = window**2 * windows(grid, mask)
    return slots * config.embed_dim * (4 * window**2 + 4 * window * config.relative_positions)


def windows(grid: RegionGrid, downsample_mask: BoolMask) -> int:
    """Attention windows of a frame; windows at the border count whole, because they are padded."""
    per_region = {
        scale: -(-grid.heights[:, None] // (scale * grid.window)) * -(-grid.widths // (scale * grid.window))
        for scale in (1, grid.factor)
    }
    return int(np.where(downsample_mask, per_region[grid.factor], per_region[1]).sum())


def _stem_per_token(config: VitConfig) -> int:
    embed_dim, patch = config.embed_dim, config.patch_px
    if config.stem == "linear":
        return 2 * 3 * patch**2 * embed_dim
    quarter, half = embed_dim // 4, embed_dim // 2
    first = (patch // 4) ** 2 * (3 * 4**2) * quarter
    second = (patch // 8) ** 2 * (quarter * 2**2) * half
    third = half * (patch // 8) ** 2 * embed_dim
    return 2 * (first + second + third)
