"""Linear layers in int8: rows scaled and rounded, after GELU where one comes before, and a product that scales back."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vitmalis.detector.fused.kernels.settings import LaunchSettings, launch_settings, power_of_two
from vitmalis.detector.int8 import LARGEST, SMALLEST_SCALE, Int8Linear

GROUP = 8
"""Tiles of rows that go through the columns together, so that the weights that they share stay in the cache."""


@triton.jit
def _quantise_rows(
    X, ROWS, SCALE, C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
    GELU: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    c = tl.arange(0, BC)[None, :]
    is_c = c < C
    x = tl.load(X + row[:, None] * C + c, mask=is_c, other=0.0).to(tl.float32)
    if GELU:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    scale = tl.maximum(tl.max(tl.abs(x), 1) / LARGEST, SMALLEST)
    tl.store(ROWS + row[:, None] * C + c, tl.floor(x / scale[:, None] + 0.5).to(tl.int8), mask=is_c)
    tl.store(SCALE + row, scale)


@triton.jit
def _scaled_product(
    ROWS, ROW_SCALE, WEIGHT, SCALE, BIAS, OUT, tiles,
    C: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One program for a tile of rows and output channels."""
    ACROSS: tl.constexpr = (N + BN - 1) // BN
    program = tl.program_id(0)
    first = program // (GROUP * ACROSS) * GROUP
    height = tl.minimum(tiles - first, GROUP)
    place = program % (GROUP * ACROSS)
    m = (first + place % height) * BM + tl.arange(0, BM)
    n = place // height * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    is_n = n < N
    sums = tl.zeros([BM, BN], tl.int32)
    for start in range(0, C, BK):
        is_k = start + k < C
        row = tl.load(ROWS + m[:, None] * C + start + k[None, :], mask=is_k[None, :], other=0)
        weight = tl.load(WEIGHT + n[None, :] * C + start + k[:, None], mask=is_k[:, None] & is_n[None, :], other=0)
        sums = tl.dot(row, weight, sums, out_dtype=tl.int32)
    scale = tl.load(ROW_SCALE + m)[:, None] * tl.load(SCALE + n, mask=is_n, other=0.0)[None, :]
    out = sums.to(tl.float32) * scale + tl.load(BIAS + n, mask=is_n, other=0.0).to(tl.float32)[None, :]
    tl.store(OUT + m[:, None] * N + n[None, :], out, mask=is_n[None, :])


def quantise_rows(x: Tensor, settings: LaunchSettings, *, gelu: bool = False) -> tuple[Tensor, Tensor]:
    """Scale and round rows in one pass, as `vitmalis.detector.int8.quantised` does.

    Args:
        x: (n, C), n a multiple of the settings' `bucket_tokens`.
        settings: how the kernel is launched.
        gelu: apply exact GELU before.
    """
    width = x.shape[1]
    rows, scale = torch.empty_like(x, dtype=torch.int8), x.new_empty(len(x), dtype=torch.float32)
    _quantise_rows[(len(x) // settings.rows,)](
        x, rows, scale, C=width, BC=power_of_two(width), BR=settings.rows, LARGEST=LARGEST, SMALLEST=SMALLEST_SCALE,
        GELU=gelu,
    )  # fmt: skip
    return rows, scale


def scaled_product(rows: Tensor, row_scale: Tensor, layer: Int8Linear, settings: LaunchSettings) -> Tensor:
    """Multiply rows by a layer's weight, scale the sums back and add the bias.

    Args:
        rows, row_scale: from `quantise_rows`.
        layer: of `in` channels.
        settings: how the kernel is launched.

    Returns:
        bfloat16 (n, out).
    """
    width, inner = layer.weight.shape
    tile = settings.product
    tiles, across = len(rows) // tile.rows, -(-width // tile.cols)
    out = torch.empty(len(rows), width, dtype=torch.bfloat16, device=rows.device)
    _scaled_product[(tiles * across,)](
        rows, row_scale, layer.weight, layer.scale, layer.bias, out, tiles,
        C=inner, N=width, BM=tile.rows, BN=tile.cols, BK=tile.depth, GROUP=GROUP,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


class FusedInt8Linear:
    """An `Int8Linear` as two kernels."""

    def __init__(self, layer: Int8Linear) -> None:
        self._layer = layer
        self._settings = launch_settings(layer.weight.device, layer.bias.dtype)

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (B * tokens, in), after exact GELU if asked for, to bfloat16 (B * tokens, out)."""
        return scaled_product(*quantise_rows(x, self._settings, gelu=gelu), self._layer, self._settings)
