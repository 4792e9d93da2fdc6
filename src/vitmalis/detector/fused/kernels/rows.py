"""Residual sums and layer norms over rows of tokens, with the gathers that come before them."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor, nn

from vitmalis.detector.fused.geometry import FrameGeometry
from vitmalis.detector.fused.kernels.settings import LaunchSettings, power_of_two
from vitmalis.detector.fused.slots import DevicePlan


class Norm(NamedTuple):
    """A layer norm's parameters in float32, each (C,)."""

    gain: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, norm: nn.LayerNorm) -> Norm:
        """Take the parameters of a module."""
        return cls(norm.weight.detach().float(), norm.bias.detach().float(), norm.eps)


@triton.jit
def interpolated(at, length, SIDE: tl.constexpr, FACTOR: tl.constexpr):
    """Where linear interpolation inside regions finds a place at full resolution: two low places, the second's share.

    As PyTorch's `interpolate` without aligned corners, each region on its own.

    Args:
        at: the place along one axis.
        length: places along the axis.
        SIDE: places along the side of a whole region.
        FACTOR: places that a low one covers.
    """
    region = at // SIDE * SIDE
    end = tl.minimum(region + SIDE, length) // FACTOR
    place = tl.maximum((at - region + 0.5) / FACTOR - 0.5, 0.0)
    before = place.to(tl.int32)
    first = region // FACTOR + before
    return first, tl.minimum(first + 1, end - 1), place - before.to(tl.float32)


@triton.jit
def _store_norm(x, is_c, c, GAIN, BIAS, Y, row, frame_tokens, eps, C: tl.constexpr):
    """Normalise rows (rows, C); that of the last token of a frame, which is never a real one, becomes zero."""
    centred = tl.where(is_c, x - tl.sum(x, 1)[:, None] / C, 0.0)
    rate = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / C + eps)
    gain = tl.load(GAIN + c, mask=is_c, other=0.0)
    bias = tl.load(BIAS + c, mask=is_c, other=0.0)
    is_last = row % frame_tokens == frame_tokens - 1
    y = tl.where(is_last[:, None], 0.0, centred * rate[:, None] * gain + bias)
    tl.store(Y + row[:, None] * C + c, y, mask=is_c)


@triton.jit
def _add_norm(
    X, PART, Y, GAIN, BIAS, frame_tokens, eps,
    C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    c = tl.arange(0, BC)[None, :]
    is_c = c < C
    at = row[:, None] * C + c
    x = tl.load(X + at, mask=is_c, other=0.0) + tl.load(PART + at, mask=is_c, other=0.0).to(tl.float32)
    tl.store(X + at, x, mask=is_c)
    if NORM:
        _store_norm(x, is_c, c, GAIN, BIAS, Y, row, frame_tokens, eps, C)


@triton.jit
def _embed_norm(
    POSITIONS, PART, CELL, X, Y, GAIN, BIAS, plan_stride, frame_tokens, eps,
    C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    c = tl.arange(0, BC)[None, :]
    is_c = c < C
    at = row[:, None] * C + c
    cell = tl.load(CELL + row // frame_tokens * plan_stride + row % frame_tokens)
    x = tl.load(POSITIONS + cell[:, None] * C + c, mask=is_c, other=0.0)
    x += tl.load(PART + at, mask=is_c, other=0.0).to(tl.float32)
    tl.store(X + at, x, mask=is_c)
    _store_norm(x, is_c, c, GAIN, BIAS, Y, row, frame_tokens, eps, C)


@triton.jit
def _restore_norm(
    TOKENS, TOKEN, X, Y, GAIN, BIAS, plan_stride, mixed_tokens, frame_tokens, rows, cols, eps,
    SIDE: tl.constexpr, FACTOR: tl.constexpr, C: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BR + tl.arange(0, BR)
    c = tl.arange(0, BC)[None, :]
    is_c = c < C
    frame = row // frame_tokens
    patch = row % frame_tokens
    first = frame * mixed_tokens
    token_in = TOKEN + frame * plan_stride
    is_patch = patch < rows * cols
    token = tl.load(token_in + patch, mask=is_patch, other=-1)
    x = tl.load(TOKENS + (first + token)[:, None] * C + c, mask=(token >= 0)[:, None] & is_c, other=0.0)
    is_low = is_patch & (token < 0)
    top, bottom, down = interpolated(patch // cols, rows, SIDE, FACTOR)
    left, right, across = interpolated(patch % cols, cols, SIDE, FACTOR)
    for tap in tl.static_range(4):  # with the weight of each
        low_row = bottom if tap // 2 else top
        low_col = right if tap % 2 else left
        share = (down if tap // 2 else 1.0 - down) * (across if tap % 2 else 1.0 - across)
        low = tl.load(token_in + rows * cols + low_row * (cols // FACTOR) + low_col, mask=is_low, other=0)
        value = tl.load(TOKENS + (first + low)[:, None] * C + c, mask=is_low[:, None] & is_c, other=0.0)
        x += share[:, None] * value
    tl.store(X + row[:, None] * C + c, x, mask=is_c)
    _store_norm(x, is_c, c, GAIN, BIAS, Y, row, frame_tokens, eps, C)


def add_norm(x: Tensor, part: Tensor, norm: Norm | None, plan: DevicePlan, settings: LaunchSettings, y: Tensor) -> None:
    """Add a part to a residual sum in place, and normalise the result.

    Args:
        x: float32 (B * tokens, C), the sum.
        part: (B * tokens, C).
        norm: None to leave `y` as it is.
        plan: of each frame.
        settings: how the kernel is launched.
        y: (B * tokens, C), for the normalised sum.
    """
    width = x.shape[1]
    gain, bias, eps = norm or (x, x, 0.0)
    _add_norm[(len(x) // settings.rows,)](
        x, part, y, gain, bias, plan.tokens, eps,
        C=width, BC=power_of_two(width), BR=settings.rows, NORM=norm is not None,
    )  # fmt: skip


def embed_norm(
    positions: Tensor, embedded: Tensor, plan: DevicePlan, norm: Norm, settings: LaunchSettings, x: Tensor, y: Tensor
) -> None:
    """Add absolute positions to embedded patches, and normalise the result.

    Args:
        positions: float32 (cells, C).
        embedded: (B * tokens, C).
        plan: of each frame.
        norm: of the first block.
        settings: how the kernel is launched.
        x: float32 (B * tokens, C), for the sum.
        y: (B * tokens, C), for the normalised sum.
    """
    width = x.shape[1]
    _embed_norm[(len(x) // settings.rows,)](
        positions, embedded, plan.cell, x, y, norm.gain, norm.bias, plan.stride, plan.tokens, norm.eps,
        C=width, BC=power_of_two(width), BR=settings.rows,
    )  # fmt: skip


def restore_norm(
    tokens: Tensor, plan: DevicePlan, geometry: FrameGeometry, plain: DevicePlan, norm: Norm, settings: LaunchSettings,
    x: Tensor, y: Tensor,
) -> None:  # fmt: skip
    """Restore tokens to full resolution and raster order, bilinear inside each region, and normalise the result.

    Args:
        tokens: float32 (B * tokens of the plan, C).
        plan: of each frame.
        geometry: of the frames.
        plain: of each frame at full resolution.
        norm: of the block that follows.
        settings: how the kernel is launched.
        x: float32 (B * tokens, C), for the restored tokens.
        y: (B * tokens, C), for the normalised ones.
    """
    width, grid = x.shape[1], geometry.grid
    _restore_norm[(len(x) // settings.rows,)](
        tokens, plan.token, x, y, norm.gain, norm.bias, plan.stride, plan.tokens, plain.tokens,
        geometry.full.rows, geometry.full.cols, norm.eps,
        SIDE=grid.side, FACTOR=grid.factor, C=width, BC=power_of_two(width), BR=settings.rows,
    )  # fmt: skip
