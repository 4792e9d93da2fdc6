"""The plain vision transformer of ViTDet: tokens in, tokens out; only `TokenLayout` knows where they lie.

Parameter names are detectron2's, so its checkpoints load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from vitmalis.detector.attention import attention
from vitmalis.detector.batched_layout import Mixed, Tokens
from vitmalis.detector.config import VitConfig
from vitmalis.detector.positions import (
    RelativePositions,
    relative_table,
    resize_absolute,
    sine_positions,
    with_coarse,
)
from vitmalis.detector.token_layout import grid_layout
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

LAYER_NORM_EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); the result is channels-last in memory, which is what convolutions like best."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """One linear projection of each patch."""

    def __init__(self, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, stride=patch_px)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, width)."""
        return self.proj(images).permute(0, 2, 3, 1).contiguous()


class HierarchicalPatchEmbed(nn.Module):
    """Three projections of 4, then 2, then the rest, with norm and GELU between (hMLP stem, Touvron et al. 2022).

    Kernels equal their strides, so no pixel crosses a patch border: a patch has the same token whatever lies beside it.
    """

    def __init__(self, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, width // 4, 4, stride=4),
            ChannelNorm(width // 4),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 2, stride=2),
            ChannelNorm(width // 2),
            nn.GELU(),
            nn.Conv2d(width // 2, width, patch_px // 8, stride=patch_px // 8),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, width).

        In fp32 on a CPU, also under autocast: on CPUs with AMX, PyTorch 2.14's bfloat16 convolution reads memory that
        nobody wrote where a result is one column wide, as in a strip of patches, and channels are no multiple of 32.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        if images.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self.proj(images).permute(0, 2, 3, 1)
        return self.proj(images).permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Multi-head self-attention, over windows or over all tokens.

    Args:
        relative_size: side of the grid that the relative positions are held for; 0 for none.
        windowed: attend inside windows only.
    """

    def __init__(self, width: int, heads: int, relative_size: int, windowed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.windowed = windowed
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h: nn.Parameter | None = None
        self.rel_pos_w: nn.Parameter | None = None
        if relative_size:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * relative_size - 1, width // heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * relative_size - 1, width // heads))

    def forward(self, tokens: Tensor, layout: Tokens) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.proj(self.mix(self.qkv(tokens), layout))

    def mix(self, qkv: Tensor, layout: Tokens) -> Tensor:
        """Attend: map the queries, keys and values of tokens (B, T, 3C) to (B, T, C)."""
        batch = len(qkv)
        if self.windowed:
            # Upstream fills windows up with zeros before `qkv`, so an empty slot holds its bias, and is attended to.
            qkv = layout.to_windows(qkv, self.qkv.bias.to(qkv.dtype))  # (B * windows, S, 3C)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D)
        relative = self._relative_positions(layout, q.dtype)
        if len(relative) < 2:
            mixed = attention(q, k, v, relative[0] if relative else None)
        else:
            own = zip(q.split(1), k.split(1), v.split(1), relative, strict=True)
            mixed = torch.cat([attention(*frame) for frame in own])
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, C)
        return layout.from_windows(mixed, batch) if self.windowed else mixed

    def _relative_positions(self, layout: Tokens, dtype: torch.dtype) -> list[RelativePositions]:
        """Those of the whole batch; of each frame where tokens lie differently; none in a model without them."""
        if self.rel_pos_h is None or self.rel_pos_w is None:
            return []
        rows, cols = (layout.window, layout.window) if self.windowed else (layout.rows, layout.cols)
        row_table, col_table = relative_table(self.rel_pos_h, rows), relative_table(self.rel_pos_w, cols)
        if layout.factor and not self.windowed:
            row_table, col_table = with_coarse(row_table, layout.factor), with_coarse(col_table, layout.factor)
        row_table, col_table = row_table.to(dtype), col_table.to(dtype)
        frames = [layout.in_window] if self.windowed else layout.frames
        return [RelativePositions(row_table, col_table, parts) for parts in frames]


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between; the hidden one is four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__(OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a norm and beside a shortcut.

    Attributes:
        ends: `enter` and `leave`, plain or compiled: all of a block that needs no geometry.
    """

    def __init__(self, width: int, heads: int, relative_size: int, windowed: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width, heads, relative_size, windowed)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width)
        self.ends: tuple[Enter, Leave] = (enter, leave)

    def forward(self, tokens: Tensor, layout: Tokens) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        before, after = self.ends
        return after(self, tokens, self.attn.mix(before(self, tokens), layout))


def enter(block: Block, tokens: Tensor) -> Tensor:
    """Map tokens (B, T, C) to their queries, keys and values (B, T, 3C)."""
    return block.attn.qkv(block.norm1(tokens))


def leave(block: Block, tokens: Tensor, mixed: Tensor) -> Tensor:
    """Map tokens (B, T, C) and what they attended to (B, T, C) to the tokens after the block (B, T, C)."""
    tokens = tokens + block.attn.proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))


Enter = Callable[[Block, Tensor], Tensor]
Leave = Callable[[Block, Tensor, Tensor], Tensor]


class ViT(nn.Module):
    """Plain ViT whose last block of each subset attends globally (paper, section III-B)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        stem = PatchEmbed if config.stem == "linear" else HierarchicalPatchEmbed
        self.patch_embed = stem(config.patch_px, config.width)
        rows, cols = config.position_grid
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * cols + config.class_position, config.width))
        self.blocks = nn.ModuleList(self._block(i) for i in range(config.depth))
        self.reset_parameters()

    def _block(self, index: int) -> Block:
        config = self.config
        windowed = index not in config.global_blocks
        relative_size = (config.relative_window or config.window) if windowed else config.relative_grid
        return Block(config.width, config.heads, relative_size * config.relative_positions, windowed)

    def reset_parameters(self) -> None:
        """Start training from small linear layers and from sine positions, which tell neighbours apart at once."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        table = sine_positions(*self.config.position_grid, self.config.width).flatten(0, 1)
        with torch.no_grad():
            self.pos_embed[0, -len(table) :] = table

    def positions(self, rows: int, cols: int) -> Tensor:
        """Absolute positions of a grid of tokens: (rows, cols, C)."""
        table = self.pos_embed[0, int(self.config.class_position) :].unflatten(0, self.config.position_grid)
        return resize_absolute(table, rows, cols)

    def forward(self, images: Tensor, layout: Mixed | None = None, restoration_point: int = 0) -> Tensor:
        """Map normalised images to features of full resolution.

        Args:
            images: (B, 3, H, W), sides multiples of the patch.
            layout: which regions are downsampled, in all of these images or (`MixedBatch`) in each; None for none.
            restoration_point: see `forward_patches`; of no consequence where nothing is downsampled.

        Returns:
            (B, C, H/patch, W/patch).

        Raises:
            UserError: there is no such restoration point, or the layout is made for another patch or window.
        """
        self._check_point(restoration_point)
        if layout is not None:
            return self.forward_patches(layout.cut(images), layout, restoration_point)
        patches = self.patch_embed(images)  # (B, rows, cols, C)
        rows, cols = patches.shape[1:3]
        tokens = (patches + self.positions(rows, cols)).flatten(1, 2)  # (B, T, C)
        return self._features(tokens, grid_layout(rows, cols, self.config.window, images.device), self.blocks)

    def forward_patches(self, patches: Tensor, layout: Mixed, restoration_point: int) -> Tensor:
        """Map normalised patches of two resolutions to features of full resolution (paper, section III-B).

        Args:
            patches: (B, T, patch, patch, 3), in the order of the layout.
            layout: which regions are downsampled.
            restoration_point: the subset, from 1, whose global block is the first to see full resolution; 0 enlarges
                the pixels before the backbone.

        Returns:
            (B, C, rows, cols) of the layout's grid of patches.

        Raises:
            UserError: there is no such restoration point, or the layout is made for another patch or window.
        """
        self._check_point(restoration_point)
        self._check_grid(layout.grid)
        if restoration_point == 0:
            return self(layout.restore_pixels(patches))
        rows, cols = layout.grid.patch_rows, layout.grid.patch_cols
        # Patches one above the other are a picture one patch wide.
        column = patches.flatten(1, 2).permute(0, 3, 1, 2)  # (B, 3, T * patch, patch)
        tokens = self.patch_embed(column)[:, :, 0] + layout.positions(self.positions(rows, cols))
        first = self.config.global_blocks[restoration_point - 1]
        for block in self.blocks[:first]:
            tokens = block(tokens, layout.attention)
        plain = grid_layout(rows, cols, self.config.window, patches.device)
        return self._features(layout.restore(tokens), plain, self.blocks[first:])

    def _features(self, tokens: Tensor, layout: Tokens, blocks: Iterable[nn.Module]) -> Tensor:
        for block in blocks:
            tokens = block(tokens, layout)
        return tokens.unflatten(1, (layout.rows, layout.cols)).permute(0, 3, 1, 2)

    def _check_point(self, restoration_point: int) -> None:
        if not 0 <= restoration_point <= self.config.subsets:
            raise UserError(f"restoration point {restoration_point} does not exist; choose 0 to {self.config.subsets}")

    def _check_grid(self, grid: RegionGrid) -> None:
        if (grid.patch_px, grid.window) != (self.config.patch_px, self.config.window):
            raise UserError(
                f"regions are made for patches of {grid.patch_px} px and windows of {grid.window}, but the model has "
                f"{self.config.patch_px} px and {self.config.window}"
            )
