"""From bytes to normalised pixels of patches, in the order in which the stem multiplies them."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from vitmalis.detector.fused.geometry import FrameGeometry
from vitmalis.detector.fused.kernels.rows import interpolated
from vitmalis.detector.fused.kernels.settings import LaunchSettings, power_of_two
from vitmalis.detector.fused.slots import DevicePlan, Frames


class Scale(NamedTuple):
    """Mean and standard deviation of red, green and blue, on the scale 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@triton.jit
def _pixel(order, SIDE: tl.constexpr):
    """Row, column and channel of values of a patch (SIDE, SIDE, 3)."""
    return order // (3 * SIDE), order // 3 % SIDE, order % 3


@triton.jit
def _normalised(value, channel, m0, m1, m2, s0, s1, s2):
    mean = tl.where(channel == 0, m0, tl.where(channel == 1, m1, m2))
    std = tl.where(channel == 0, s0, tl.where(channel == 1, s1, s2))
    return (value.to(tl.float32) - mean) / std


@triton.jit
def _cell_place(cell, rows, cols, FACTOR: tl.constexpr):
    """Row and column of a cell in its grid, and the patches along its side."""
    low = cell >= rows * cols
    place = tl.where(low, cell - rows * cols, cell)
    across = tl.where(low, cols // FACTOR, cols)
    return place // across, place % across, tl.where(low, FACTOR, 1)


@triton.jit
def _patch_pixels(
    BYTES, CELL, PATCH, ORDER, OUT, plan_stride, frame_tokens, rows, cols, height, width, m0, m1, m2, s0, s1, s2,
    FACTOR: tl.constexpr, SIDE: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    VALUES: tl.constexpr = 3 * SIDE * SIDE
    token = tl.program_id(0) * BR + tl.arange(0, BR)
    k = tl.arange(0, BK)[None, :]
    is_k = k < VALUES
    at = token // frame_tokens * plan_stride + token % frame_tokens
    order = tl.load(ORDER + k, mask=is_k, other=0)
    y, x, channel = _pixel(order, SIDE)
    row, col, side = _cell_place(tl.load(CELL + at)[:, None], rows, cols, FACTOR)
    patch = token // frame_tokens * frame_tokens + tl.load(PATCH + at)
    value = tl.load(BYTES + patch[:, None] * VALUES + order, mask=is_k, other=0)
    inside = ((row * SIDE + y) * side < height) & ((col * SIDE + x) * side < width)
    pixel = tl.where(inside, _normalised(value, channel, m0, m1, m2, s0, s1, s2), 0.0)
    tl.store(OUT + token[:, None] * VALUES + k, pixel, mask=is_k)


@triton.jit
def _image_pixels(
    BYTES, CELL, ORDER, OUT, plan_stride, frame_tokens, rows, cols, height, width, m0, m1, m2, s0, s1, s2,
    FACTOR: tl.constexpr, SIDE: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    VALUES: tl.constexpr = 3 * SIDE * SIDE
    token = tl.program_id(0) * BR + tl.arange(0, BR)
    frame = token // frame_tokens
    k = tl.arange(0, BK)[None, :]
    is_k = k < VALUES
    order = tl.load(ORDER + k, mask=is_k, other=0)
    y, x, channel = _pixel(order, SIDE)
    cell = tl.load(CELL + frame * plan_stride + token % frame_tokens)
    row, col, side = _cell_place(cell[:, None], rows, cols, FACTOR)
    image = BYTES + frame[:, None] * (3 * height * width)
    total = tl.zeros([BR, BK], tl.float32)
    for part in range(FACTOR * FACTOR):
        down = (row * SIDE + y) * side + part // side
        across = (col * SIDE + x) * side + part % side
        inside = is_k & (part < side * side) & (down < height) & (across < width)
        value = tl.load(image + (down * width + across) * 3 + channel, mask=inside, other=0)
        total += tl.where(inside, _normalised(value, channel, m0, m1, m2, s0, s1, s2), 0.0)
    tl.store(OUT + token[:, None] * VALUES + k, total / (side * side).to(tl.float32), mask=is_k)


@triton.jit
def _restored_pixels(
    PIXELS, TOKEN, ORDER, OUT, plan_stride, mixed_tokens, frame_tokens, rows, cols,
    REGION: tl.constexpr, FACTOR: tl.constexpr, SIDE: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    VALUES: tl.constexpr = 3 * SIDE * SIDE
    out_row = tl.program_id(0) * BR + tl.arange(0, BR)
    frame = (out_row // frame_tokens)[:, None]
    patch = (out_row % frame_tokens)[:, None]
    k = tl.arange(0, BK)[None, :]
    is_k = k < VALUES
    first = frame * mixed_tokens
    token_in = TOKEN + frame * plan_stride
    is_patch = patch < rows * cols
    token = tl.load(token_in + patch, mask=is_patch, other=-1)
    order = tl.load(ORDER + k, mask=is_k, other=0)
    out = tl.load(PIXELS + (first + token) * VALUES + order, mask=(token >= 0) & is_k, other=0.0)
    is_low = is_patch & (token < 0) & is_k
    y, x, channel = _pixel(order, SIDE)
    top, bottom, down = interpolated(patch // cols * SIDE + y, rows * SIDE, REGION * SIDE, FACTOR)
    left, right, across = interpolated(patch % cols * SIDE + x, cols * SIDE, REGION * SIDE, FACTOR)
    for tap in tl.static_range(4):  # with the weight of each
        low_y = bottom if tap // 2 else top
        low_x = right if tap % 2 else left
        share = (down if tap // 2 else 1.0 - down) * (across if tap % 2 else 1.0 - across)
        cell = rows * cols + low_y // SIDE * (cols // FACTOR) + low_x // SIDE
        low = first + tl.load(token_in + cell, mask=is_low, other=0)
        value = ((low * SIDE + low_y % SIDE) * SIDE + low_x % SIDE) * 3 + channel
        out += share * tl.load(PIXELS + value, mask=is_low, other=0.0)
    tl.store(OUT + out_row[:, None] * VALUES + k, out, mask=is_k)


def frame_pixels(
    data: Tensor, frames: Frames, plan: DevicePlan, geometry: FrameGeometry, scale: Scale, order: Tensor,
    settings: LaunchSettings, out: Tensor,
) -> None:  # fmt: skip
    """Normalise the pixels of tokens; those beyond the frame become zero.

    Args:
        data: uint8 (B, tokens, patch * patch * 3), in the order in which clients send patches; or whole images
            (B, H, W, 3), of which tokens of low resolution take averages.
        frames: which of the two.
        plan: of each frame.
        geometry: of the frames.
        scale: what the pixels are normalised by.
        order: int32 (patch * patch * 3,), which value of a patch (patch, patch, 3) goes to each place of `out`.
        settings: how the kernel is launched.
        out: (B * tokens, patch * patch * 3).
    """
    grid, programs = geometry.grid, (len(out) // settings.rows,)
    sizes = geometry.full.rows, geometry.full.cols, grid.height_px, grid.width_px
    common = order, out, plan.stride, plan.tokens, *sizes, *scale.mean, *scale.std
    tile = {"FACTOR": grid.factor, "SIDE": grid.patch_px, "BK": power_of_two(out.shape[1]), "BR": settings.rows}
    if frames == "patches":
        _patch_pixels[programs](data, plan.cell, plan.patch, *common, **tile)
    else:
        _image_pixels[programs](data, plan.cell, *common, **tile)


def restored_pixels(
    pixels: Tensor, plan: DevicePlan, geometry: FrameGeometry, plain: DevicePlan, order: Tensor,
    settings: LaunchSettings, out: Tensor,
) -> None:  # fmt: skip
    """Enlarge the pixels of low-resolution patches, bilinear inside each region: restoration before the backbone.

    Args:
        pixels: float32 (B * tokens of the plan, patch * patch * 3), the values of a patch in order.
        plan: of each frame.
        geometry: of the frames.
        plain: of each frame at full resolution.
        order, settings: as of `frame_pixels`.
        out: (B * tokens, patch * patch * 3), patches in raster order.
    """
    grid = geometry.grid
    _restored_pixels[(len(out) // settings.rows,)](
        pixels, plan.token, order, out, plan.stride, plan.tokens, plain.tokens, geometry.full.rows, geometry.full.cols,
        REGION=grid.side, FACTOR=grid.factor, SIDE=grid.patch_px, BK=power_of_two(out.shape[1]), BR=settings.rows,
    )  # fmt: skip
