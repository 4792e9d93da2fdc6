"""Augmentation of batches in PyTorch, for devices on which that is faster than `augment`, whose results it has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitmalis_jobs.training.detection.augment import ALIASED_SCALE, PAD_VALUE, SHRINK_BLUR
from vitmalis_jobs.training.detection.device_jpeg import jpeg_coded
from vitmalis_jobs.training.detection.distortion import Distortion
from vitmalis_jobs.training.detection.views import View


class Views(NamedTuple):
    """The `View`s of a batch, all of one size: a tensor (B,) of each of the other fields."""

    x_px: Tensor
    y_px: Tensor
    scale: Tensor
    flip: Tensor

    @classmethod
    def packed(cls, views: Sequence[View]) -> Views:
        """Pack the views of a batch."""
        return cls(*(torch.tensor([getattr(view, name) for view in views]) for name in cls._fields))


class Distortions(NamedTuple):
    """The `Distortion`s of a batch: a tensor of each field, (B,) or for the cast (B, 3)."""

    contrast: Tensor
    gain: Tensor
    cast: Tensor
    saturation: Tensor
    gamma: Tensor
    dimming: Tensor
    blur_px: Tensor
    noise: Tensor
    noise_seed: Tensor
    jpeg_quality: Tensor

    @classmethod
    def packed(cls, distortions: Sequence[Distortion]) -> Distortions:
        """Pack the distortions of a batch."""
        return cls(*(torch.tensor(values) for values in zip(*map(dataclasses.astuple, distortions), strict=True)))


def cut(frames: Tensor, sizes: Tensor, views: Views, size: tuple[int, int]) -> Tensor:
    """Cut a view out of each frame; see `augment.cut`.

    Scaling is separable: each axis has a matrix of the weights that its source pixels have in each output pixel. On a
    GPU the two products cost less than gathering the few pixels with a weight above zero.

    Args:
        frames: uint8 (B, 3, H, W), each in the upper left corner.
        sizes: (B, 2), width and height of each frame, pixels.
        views: in the CPU's memory.
        size: width and height of the views, pixels.

    Returns:
        Whole numbers as float (B, 3, height, width), 0..255, on the frames' device.
    """
    smallest = float(views.scale.min())
    radius = math.ceil(3 * SHRINK_BLUR / smallest) if smallest < ALIASED_SCALE else 0
    x, y, scale, flip = (field.to(frames.device, non_blocking=True) for field in views)
    axes = []
    for axis, corner in enumerate((x, y)):
        at = torch.arange(size[axis], device=frames.device).expand(len(corner), -1)  # (B, out)
        if axis == 0:
            at = torch.where(flip[:, None], size[axis] - 1 - at, at)
        centres = corner[:, None] + (at + 0.5) / scale[:, None] - 0.5
        blur_px = torch.where(scale < ALIASED_SCALE, SHRINK_BLUR / scale, 0.0)
        begin = (-corner * scale).clamp(min=0).floor()
        end = ((sizes[:, axis] - corner) * scale).ceil()
        padding = (at < begin[:, None]) | (at >= end[:, None])
        weights = _sampling_weights(centres, sizes[:, axis], frames.shape[3 - axis], blur_px, radius)
        axes.append((weights, padding))
    (across, outside_x), (down, outside_y) = axes
    out = down[:, None] @ frames.float() @ across[:, None].mT
    return torch.where((outside_y[:, :, None] | outside_x[:, None])[:, None], PAD_VALUE, out.round())


def _sampling_weights(centres: Tensor, sizes: Tensor, length: int, blur_px: Tensor, radius: int) -> Tensor:
    """Weights of source pixels for bilinear samples of a blurred row.

    Args:
        centres: (B, out), where samples are taken, in indices of source pixels; clamped to the row.
        sizes: (B,), lengths of the rows.
        length: of the longest row.
        blur_px: (B,), standard deviation of the Gaussian blur; 0 for none.
        radius: of the longest blur.

    Returns:
        (B, out, length); they sum to 1, also where the row ends within the blur.
    """
    source = torch.arange(length, device=centres.device)
    distance = source - torch.minimum(centres.clamp(min=0), sizes[:, None] - 1)[..., None]  # (B, out, length)
    weights = torch.zeros_like(distance)
    for tap in range(-radius, radius + 1):
        share = 1.0 if tap == 0 else torch.exp(-(tap**2) / (2 * blur_px**2))[:, None, None]
        weights += share * (1 - (distance - tap).abs()).clamp(min=0)
    weights *= source < sizes[:, None, None]
    return weights / weights.sum(-1, keepdim=True)


def distort(images: Tensor, distortions: Distortions) -> Tensor:
    """Apply its distortion to each image; see `augment.distort`.

    Args:
        images: float (B, 3, H, W), 0..255, H and W multiples of 16.
        distortions: in the CPU's memory.

    Returns:
        Whole numbers as float (B, 3, H, W), 0..255; the noise is another one on each kind of device.
    """
    factors = [field.to(images.device, non_blocking=True).view(len(images), -1, 1, 1) for field in distortions[:6]]
    contrast, gain, cast, saturation, gamma, dimming = factors
    out = images / 255
    mean = out.mean((1, 2, 3), keepdim=True)
    out = ((out - mean) * contrast + mean) * gain * cast
    grey = out.mean(1, keepdim=True)
    out = (grey + (out - grey) * saturation).clamp(0, 1) ** gamma * dimming
    out = _blurred(out, distortions.blur_px)
    out = _with_noise(out, distortions)
    out = (out.clamp(0, 1) * 255).round()
    coded = _selected(distortions.jpeg_quality, out.device)
    if len(coded):
        quality = distortions.jpeg_quality[distortions.jpeg_quality > 0].to(out.device, non_blocking=True)
        out[coded] = jpeg_coded(out[coded], quality)
    return out


def _selected(amounts: Tensor, device: torch.device) -> Tensor:
    """Indices of the images with an amount above zero, found in the CPU's memory so that nothing waits for a GPU."""
    return amounts.nonzero()[:, 0].to(device, non_blocking=True)


def _blurred(images: Tensor, blur_px: Tensor) -> Tensor:
    chosen = _selected(blur_px, images.device)
    if not len(chosen):
        return images
    radius = math.ceil(4 * float(blur_px.max()))
    amounts = blur_px[blur_px > 0].to(images.device, non_blocking=True)
    down, across = (
        _sampling_weights(
            torch.arange(length, device=images.device).expand(len(chosen), -1),
            torch.full_like(amounts, length),
            length,
            amounts,
            radius,
        )[:, None]
        for length in images.shape[2:]
    )
    return images.index_copy(0, chosen, down @ images[chosen] @ across.mT)


def _with_noise(images: Tensor, distortions: Distortions) -> Tensor:
    generator = torch.Generator(images.device)
    for index in distortions.noise.nonzero()[:, 0].tolist():
        generator.manual_seed(int(distortions.noise_seed[index]))
        noise = torch.randn(images.shape[2:], generator=generator, device=images.device)
        images[index] += float(distortions.noise[index]) * noise
    return images
