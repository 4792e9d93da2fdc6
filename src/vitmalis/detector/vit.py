"""The plain vision transformer of ViTDet (https://arxiv.org/abs/2203.16527) at mixed resolution.

Ported from detectron2's `ViT`, with its parameter names, so that its checkpoints load as they are:
https://github.com/facebookresearch/detectron2/blob/02b5c4e295e9/detectron2/modeling/backbone/vit.py

Blocks map sequences of tokens and know nothing of geometry; a `TokenLayout` says where in the frame the tokens lie.
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
from vitmalis.detector.stems import LAYER_NORM_EPS, HierarchicalPatchEmbed, PatchEmbed
from vitmalis.detector.token_layout import grid_layout
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid


class ViT(nn.Module):
    """Plain ViT whose last block of each subset attends globally (paper, section III-B)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        stem = PatchEmbed if config.stem == "linear" else HierarchicalPatchEmbed
        self.patch_embed = stem(config.patch_px, config.embed_dim)
        rows, cols = config.position_grid
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * cols + config.class_position, config.embed_dim))
        self.blocks = nn.ModuleList(self._block(i) for i in range(config.depth))
        self.reset_parameters()

    def _block(self, index: int) -> Block:
        config = self.config
        windowed = index not in config.global_blocks
        relative_size = (config.relative_window or config.window) if windowed else config.relative_grid
        return Block(config.embed_dim, config.num_heads, relative_size * config.relative_positions, windowed)

    def reset_parameters(self) -> None:
        """Initialise for training: small linear layers, and sine positions, which tell neighbours apart."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        table = sine_positions(*self.config.position_grid, self.config.embed_dim).flatten(0, 1)
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
            restoration_point: see `forward_patches`; without effect where nothing is downsampled.

        Returns:
            (B, C, H/patch, W/patch).

        Raises:
            UserError: there is no such restoration point, or the layout is made for another patch or window.
        """
        self.check_point(restoration_point)
        if layout is not None:
            return self.forward_patches(layout.cut(images), layout, restoration_point)
        tokens, rows, cols = self._embedded(images)
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
        self.check_point(restoration_point)
        self._check_grid(layout.grid)
        if restoration_point == 0:
            return self(layout.restore_pixels(patches))
        tokens = self.restored_tokens(patches, layout, restoration_point)
        return self.resume(tokens, layout.grid, restoration_point)

    def restored_tokens(
        self, patches: Tensor, layout: Mixed, restoration_point: int, earlier: Tensor | None = None
    ) -> Tensor:
        """Run the first half of `forward_patches`: up to and with the restoration of full resolution.

        Args:
            patches, layout, restoration_point: as of `forward_patches`, a point of at least 1.
            earlier: (B, grid patches, C), tokens of earlier frames at this point, for cached regions.

        Returns:
            (B, grid patches, C) in raster order: what the first global block at full resolution receives.

        Raises:
            UserError: there are cached regions, but no earlier tokens.
        """
        rows, cols = layout.grid.patch_rows, layout.grid.patch_cols
        # Stacked patches make an image that is one patch wide.
        column = patches.flatten(1, 2).permute(0, 3, 1, 2)  # (B, 3, T * patch, patch)
        tokens = self.patch_embed(column)[:, :, 0] + layout.positions(self.positions(rows, cols))
        for block in self._blocks_before(restoration_point):
            tokens = block(tokens, layout.attention)
        return layout.restore(tokens, earlier)

    def plain_tokens(self, images: Tensor, restoration_point: int) -> Tensor:
        """The tokens of images (B, 3, H, W), all of full resolution, at a restoration point; as `restored_tokens`."""
        tokens, rows, cols = self._embedded(images)
        layout = grid_layout(rows, cols, self.config.window, images.device)
        for block in self._blocks_before(restoration_point):
            tokens = block(tokens, layout)
        return tokens

    def resume(self, tokens: Tensor, grid: RegionGrid, restoration_point: int) -> Tensor:
        """Map the tokens (B, T, C) at a restoration point to features (B, C, rows, cols), as `forward_patches` does."""
        layout = grid_layout(grid.patch_rows, grid.patch_cols, self.config.window, tokens.device)
        return self._features(tokens, layout, self.blocks[len(self._blocks_before(restoration_point)) :])

    def _embedded(self, images: Tensor) -> tuple[Tensor, int, int]:
        """Tokens (B, T, C) of plain images with their positions, and the rows and columns of their grid."""
        patches = self.patch_embed(images)  # (B, rows, cols, C)
        rows, cols = patches.shape[1:3]
        return (patches + self.positions(rows, cols)).flatten(1, 2), rows, cols

    def _blocks_before(self, restoration_point: int) -> nn.ModuleList:
        """The blocks that see both resolutions, where the point is at least 1."""
        return self.blocks[: self.config.global_blocks[restoration_point - 1]]

    def _features(self, tokens: Tensor, layout: Tokens, blocks: Iterable[nn.Module]) -> Tensor:
        for block in blocks:
            tokens = block(tokens, layout)
        return tokens.unflatten(1, (layout.rows, layout.cols)).permute(0, 3, 1, 2)

    def check_point(self, restoration_point: int) -> None:
        """Raise `UserError` unless there is such a restoration point."""
        if not 0 <= restoration_point <= self.config.subsets:
            raise UserError(f"restoration point {restoration_point} does not exist; choose 0 to {self.config.subsets}")

    def _check_grid(self, grid: RegionGrid) -> None:
        if (grid.patch_px, grid.window) != (self.config.patch_px, self.config.window):
            raise UserError(
                f"regions are made for patches of {grid.patch_px} px and windows of {grid.window}, but the model has "
                f"{self.config.patch_px} px and {self.config.window}"
            )


class Block(nn.Module):
    """A transformer block: attention and an MLP, each after a norm and with a residual connection.

    Attributes:
        pre_attention, post_attention: what the block does before and after attention, plain or compiled. Neither
            needs geometry.
    """

    def __init__(self, embed_dim: int, num_heads: int, relative_size: int, windowed: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(embed_dim, num_heads, relative_size, windowed)
        self.norm2 = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(embed_dim)
        self.pre_attention: PreAttention = pre_attention
        self.post_attention: PostAttention = post_attention

    def forward(self, tokens: Tensor, layout: Tokens) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        qkv = self.pre_attention(self, tokens)
        return self.post_attention(self, tokens, self.attn.self_attention(qkv, layout))


def pre_attention(block: Block, tokens: Tensor) -> Tensor:
    """Map tokens (B, T, C) to their queries, keys and values (B, T, 3C)."""
    return block.attn.qkv(block.norm1(tokens))


def post_attention(block: Block, tokens: Tensor, attended: Tensor) -> Tensor:
    """Map tokens and the result of attention, both (B, T, C), to the tokens after the block (B, T, C)."""
    tokens = tokens + block.attn.proj(attended)
    return tokens + block.mlp(block.norm2(tokens))


PreAttention = Callable[[Block, Tensor], Tensor]
PostAttention = Callable[[Block, Tensor, Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head self-attention, over windows or over all tokens.

    Args:
        embed_dim: channels of a token.
        num_heads: attention heads.
        relative_size: side of the grid that the relative positions are held for; 0 for none.
        windowed: attend inside windows only.
    """

    def __init__(self, embed_dim: int, num_heads: int, relative_size: int, windowed: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.windowed = windowed
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.rel_pos_h: nn.Parameter | None = None
        self.rel_pos_w: nn.Parameter | None = None
        if relative_size:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * relative_size - 1, embed_dim // num_heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * relative_size - 1, embed_dim // num_heads))

    def forward(self, tokens: Tensor, layout: Tokens) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.proj(self.self_attention(self.qkv(tokens), layout))

    def self_attention(self, qkv: Tensor, layout: Tokens) -> Tensor:
        """Map the queries, keys and values of tokens (B, T, 3C) to what they attend to (B, T, C)."""
        batch = len(qkv)
        if self.windowed:
            # Detectron2 pads windows with zeros before `qkv`, so an empty slot holds its bias, and is attended to.
            qkv = layout.window_partition(qkv, self.qkv.bias.to(qkv.dtype))  # (B * windows, S, 3C)
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D)
        relative = self._relative_positions(layout, q.dtype)
        if len(relative) < 2:
            attended = attention(q, k, v, relative[0] if relative else None)
        else:
            frames = zip(q.split(1), k.split(1), v.split(1), relative, strict=True)
            attended = torch.cat([attention(*frame) for frame in frames])
        attended = attended.transpose(1, 2).flatten(2)  # (B, T, C)
        return layout.window_unpartition(attended, batch) if self.windowed else attended

    def _relative_positions(self, layout: Tokens, dtype: torch.dtype) -> list[RelativePositions]:
        """One for the whole batch; one for each frame where their tokens lie differently; none without positions."""
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
    """Two linear layers with a GELU between; the hidden layer is four times as wide."""

    def __init__(self, embed_dim: int) -> None:
        hidden_dim = 4 * embed_dim
        layers = OrderedDict(fc1=nn.Linear(embed_dim, hidden_dim), act=nn.GELU(), fc2=nn.Linear(hidden_dim, embed_dim))
        super().__init__(layers)
