"""Launch settings of the kernels: a small table, one entry for each kind of GPU and number type."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tile(NamedTuple):
    """How one program of a kernel works.

    Attributes:
        queries: query tokens of a program, a power of two of at least 16.
        warps: warps that share them.
        stages: blocks of keys that are loaded ahead.
    """

    queries: int
    warps: int
    stages: int


class ProductTile(NamedTuple):
    """How one program of a matrix product works.

    Attributes:
        rows, cols: of the result that it computes, powers of two of at least 16.
        depth: factors of each product that are loaded at a time.
        warps, stages: as of `Tile`.
    """

    rows: int
    cols: int
    depth: int
    warps: int
    stages: int


class LaunchSettings(NamedTuple):
    """Settings of the kernels.

    Attributes:
        block_keys: most keys in a block of global attention, a power of two of at least 16.
        bucket_tokens: token counts are rounded up to a multiple of this, itself one of the rows of each tile.
        rows: tokens that a program of the other kernels takes, a divisor of `bucket_tokens`.
        plain, mixed: global attention over a plain grid, and over tokens of two resolutions.
        window: window attention over at most 128 slots.
        wide_window: window attention over more slots.
        product: linear layers in int8.
    """

    block_keys: int
    bucket_tokens: int
    rows: int
    plain: Tile
    mixed: Tile
    window: Tile
    wide_window: Tile
    product: ProductTile


HOPPER = LaunchSettings(
    128, 256, 1, Tile(128, 8, 3), Tile(64, 4, 3), Tile(64, 4, 1), Tile(128, 8, 1), ProductTile(128, 128, 128, 8, 4)
)
"""Measured with the prototype on an H200, but for `product`; for GPUs with 227 KB of shared memory."""

SMALL = LaunchSettings(
    64, 256, 1, Tile(64, 4, 2), Tile(64, 4, 2), Tile(32, 4, 1), Tile(32, 4, 1), ProductTile(128, 64, 64, 4, 3)
)
"""For 99 KB of shared memory; not measured."""

FLOAT32 = SMALL._replace(
    block_keys=32, plain=Tile(64, 4, 1), mixed=Tile(64, 4, 1), window=Tile(64, 8, 1), wide_window=Tile(16, 8, 1)
)
"""For products in float32, which take most registers; not measured."""

INTERPRETER = LaunchSettings(
    64, 64, 64, Tile(64, 4, 1), Tile(64, 4, 1), Tile(64, 4, 1), Tile(64, 4, 1), ProductTile(64, 128, 128, 4, 1)
)
"""For Triton's interpreter on a CPU, which takes its time for programs and not for numbers."""

SETTINGS = {(9, 0): HOPPER, (10, 0): HOPPER}
"""For products in bfloat16 by compute capability: H100, H200; B200."""


def launch_settings(device: torch.device, dtype: torch.dtype) -> LaunchSettings:
    """The settings for a device and the type of products."""
    if device.type != "cuda":
        return INTERPRETER
    if dtype == torch.float32:
        return FLOAT32
    return SETTINGS.get(torch.cuda.get_device_capability(device), SMALL)


def precision(dtype: torch.dtype) -> str:
    """How Triton multiplies numbers of a type: float32 as PyTorch's flag for matrix products says.

    Unrounded means three products of the parts of each number, with an error near that of float32; products of whole
    numbers would run outside the tensor cores and need more registers than there are.
    """
    rounded = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32x3" if dtype == torch.float32 and not rounded else "tf32"


def power_of_two(length: int, least: int = 1) -> int:
    """The smallest power of two that is at least `length` and `least`."""
    return max(least, 1 << max(0, length - 1).bit_length())
