"""Tokens and floating-point operations of a detector at mixed resolution, counted and not measured.

A multiplication and an addition count as two operations. Norms, activations and softmax are left out, as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.treatment import AnyTreatments, Treatment, Treatments

_POOLED_CELLS = 7 * 7
"""Cells that each proposal is pooled to."""
_MASK_POOLED_CELLS = 14 * 14
"""Cells that each detection is pooled to for its mask."""


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
    config: VitConfig, grid: RegionGrid, regions: AnyTreatments | None = None, restoration_point: int = 0
) -> VitCost:
    """Count the tokens and operations of `ViT.forward` for one frame.

    Args:
        config: the ViT.
        grid: regions of the frame.
        regions: how each is treated, cached ones with no operation before the restoration point; None: all full.
        restoration_point: 0 to N, where full resolution comes back.

    Raises:
        UserError: the treatments do not fit the grid, or leave no token.
    """
    full = np.full(grid.shape, Treatment.FULL, np.int8)
    mixed = full if regions is None else grid.treatments(regions)
    mixed_blocks = config.global_blocks[restoration_point - 1] if restoration_point else 0
    before, after = _BlockCost.of(config, grid, mixed), _BlockCost.of(config, grid, full)
    blocks = [before if index < mixed_blocks else after for index in range(config.depth)]
    attention = sum(
        block.global_attention if index in config.global_blocks else block.window_attention
        for index, block in enumerate(blocks)
    )
    return VitCost(
        tokens=tuple(block.tokens for block in blocks),
        stem_flops=blocks[0].tokens * _stem_per_token(config),
        linear_flops=sum(block.linear for block in blocks),
        attention_flops=attention,
    )


@dataclass(frozen=True, slots=True)
class _BlockCost:
    """Tokens that enter a block, and its operations: of linear layers, and of attention of either kind."""

    tokens: int
    linear: int
    window_attention: int
    global_attention: int

    @classmethod
    def of(cls, config: VitConfig, grid: RegionGrid, regions: Treatments) -> _BlockCost:
        """Cost of a block whose regions are treated so."""
        tokens = grid.tokens(regions)
        return cls(
            tokens,
            tokens * linear_flops(config),
            _window_attention(config, grid, regions),
            _global_attention(config, grid, regions),
        )


def linear_flops(config: VitConfig) -> int:
    """Count the operations of the linear layers of a block for one token."""
    return 24 * config.embed_dim**2  # qkv 3, proj 1, MLP 4 + 4 products of embed_dim x embed_dim


def merging_flops(config: VitConfig, grid: RegionGrid, token_share: float) -> int:
    """Count the operations of `MergingViT.forward` for one frame, without those of the matching.

    Args:
        config: the ViT.
        grid: regions of the frame.
        token_share: share of the tokens of each window that is left.
    """
    whole = vit_cost(config, grid)
    rows, cols = (_window_extents(length, config.window) for length in (grid.patch_rows, grid.patch_cols))
    held = np.outer(rows, cols).ravel()
    left = np.array([merged_tokens(int(tokens), token_share) for tokens in held])
    keys = left + config.window**2 - held  # empty slots stay keys
    attention = int((left * config.embed_dim * (4 * keys + 4 * config.window * config.relative_positions)).sum())
    plain = grid.treatments(np.zeros(grid.shape, np.bool_))
    saved_products = linear_flops(config) * int((held - left).sum())
    saved_by_later = saved_products + _window_attention(config, grid, plain) - attention
    windowed = config.depth // config.subsets - 1
    if not windowed:
        return whole.flops
    return whole.flops - config.subsets * (saved_products * 2 // 3 + (windowed - 1) * saved_by_later)


def merged_tokens(tokens: int, token_share: float) -> int:
    """Number of tokens that are left of a window's."""
    return max(1, round(token_share * tokens))


def _window_extents(length: int, window: int) -> NDArray[np.int64]:
    """Tokens along one axis of each window, of which the last may be partly empty."""
    return np.minimum(window, length - window * np.arange(-(-length // window)))


def _global_attention(config: VitConfig, grid: RegionGrid, regions: Treatments) -> int:
    tokens = grid.tokens(regions)
    coordinates = grid.patch_rows + grid.patch_cols
    if regions.any():
        coordinates += coordinates // grid.factor
    return tokens * config.embed_dim * (4 * tokens + 2 * coordinates * config.relative_positions)


def _window_attention(config: VitConfig, grid: RegionGrid, regions: Treatments) -> int:
    window = config.window
    slots = window**2 * windows(grid, regions)
    return slots * config.embed_dim * (4 * window**2 + 4 * window * config.relative_positions)


def windows(grid: RegionGrid, regions: AnyTreatments) -> int:
    """Attention windows of a frame; windows at the border count whole, because they are padded."""
    full, low = (
        -(-grid.heights[:, None] // (scale * grid.window)) * -(-grid.widths // (scale * grid.window))
        for scale in (1, grid.factor)
    )
    return int(np.choose(grid.treatments(regions), [full, low, np.zeros_like(full)]).sum())


def rcnn_flops(config: DetectorConfig, grid: RegionGrid) -> int:
    """Count the operations of the pyramid and of an R-CNN head, for one frame with all its proposals and detections.

    Masks and restoration points make no difference, as all regions are restored before. Selecting and pooling boxes is
    left out.

    Args:
        config: the detector.
        grid: regions of the frame.

    Raises:
        TypeError: the detector has another head.
    """
    head = config.head
    if not isinstance(head, RcnnConfig):
        raise TypeError(f"{config.name} has no R-CNN head")
    channels = config.pyramid.channels
    pyramid, levels = _pyramid(config.pyramid, config.vit.embed_dim, grid)
    anchors = 5 * len(head.aspect_ratios)  # a logit and four deltas for each
    proposals = sum(
        2 * _convolution(cells, channels, channels, 3) + _convolution(cells, channels, anchors, 1) for cells in levels
    )
    widths = (channels, *head.box_convs)
    pooled = sum(_convolution(_POOLED_CELLS, before, after, 3) for before, after in pairwise(widths))
    outputs = 5 * len(config.classes) + 1
    linear = 2 * head.box_width * (_POOLED_CELLS * widths[-1] + outputs)
    masks = mask_flops(config, head.max_detections) if config.mask_head else 0
    return pyramid + proposals + head.proposals * (pooled + linear) + masks


def mask_flops(config: DetectorConfig, detections: int) -> int:
    """Count the operations of the mask head for so many detections; pooling is left out.

    Raises:
        TypeError: the detector has no mask head.
    """
    head = config.mask_head
    if head is None:
        raise TypeError(f"{config.name} has no mask head")
    widths = (config.pyramid.channels, *head.convs)
    convolutions = sum(_convolution(_MASK_POOLED_CELLS, before, after, 3) for before, after in pairwise(widths))
    doubled = _convolution(_MASK_POOLED_CELLS, widths[-1], widths[-1], 2)
    masks = len(config.classes) if head.per_class else 1
    return detections * (convolutions + doubled + _convolution(4 * _MASK_POOLED_CELLS, widths[-1], masks, 1))


def _pyramid(config: PyramidConfig, embed_dim: int, grid: RegionGrid) -> tuple[int, list[int]]:
    """Operations of the pyramid, and the number of cells of its levels, the subsampled one last."""
    flops, cells = 0, []
    for stride in config.strides:
        width, rows, cols = embed_dim, grid.patch_rows, grid.patch_cols
        for _ in range({4: 2, 8: 1}.get(stride, 0)):  # transposed convolutions that halve the stride and the channels
            flops += _convolution(rows * cols, width, width // 2, 2)
            width, rows, cols = width // 2, 2 * rows, 2 * cols
        if stride == 32:
            rows, cols = rows // 2, cols // 2
        flops += _convolution(rows * cols, width, config.channels, 1)
        flops += _convolution(rows * cols, config.channels, config.channels, 3)
        cells.append(rows * cols)
    return flops, [*cells, -(-rows // 2) * -(-cols // 2)]


def _convolution(cells: int, before: int, after: int, kernel: int) -> int:
    """Operations of a convolution over so many cells, of its input where it is transposed."""
    return 2 * cells * kernel**2 * before * after


def _stem_per_token(config: VitConfig) -> int:
    embed_dim, patch = config.embed_dim, config.patch_px
    if config.stem == "linear":
        return 2 * 3 * patch**2 * embed_dim
    quarter, half = embed_dim // 4, embed_dim // 2
    first = (patch // 4) ** 2 * (3 * 4**2) * quarter
    second = (patch // 8) ** 2 * (quarter * 2**2) * half
    third = half * (patch // 8) ** 2 * embed_dim
    return 2 * (first + second + third)
