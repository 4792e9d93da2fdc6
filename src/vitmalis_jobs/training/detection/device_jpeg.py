"""What JPEG coding does to images, in PyTorch: baseline, 4:2:0, with the steps and the roundings of libjpeg."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.devices import constant

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of luminance at quality 50: table K.1 of ITU-T T.81; rows are vertical frequencies."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Quantisation of chrominance at quality 50: table K.2 of ITU-T T.81."""

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""RGB to luminance, blue and red difference (JFIF)."""
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg_coded(images: Tensor, quality: Tensor) -> Tensor:
    """Code images as JPEG and decode them again.

    Args:
        images: float (B, 3, H, W), RGB, whole numbers 0..255, H and W multiples of 16.
        quality: int64 (B,), 1 to 100, on the same device.

    Returns:
        The same kind of images; next to OpenCV's codec a few coefficients differ that lie between two steps.
    """
    luminance, *differences = _mixed(images, TO_YCC).round().unbind(1)
    planes = [_quantised(luminance - 128, _steps(LUMINANCE, quality))]
    steps = _steps(CHROMINANCE, quality)
    planes += [_enlarged(_quantised(_halved(plane), steps)) for plane in differences]
    planes[0] = planes[0] + 128
    return _mixed(torch.stack(planes, 1), TO_RGB).round().clamp(0, 255)


def _mixed(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", constant(matrix, images), images)


def _steps(table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Quantisation steps (B, 1, 1, 8, 8) of a table at each quality, as libjpeg scales them."""
    percent = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None]
    scaled = (constant(table, quality) * percent + 50) // 100
    return scaled.clamp(1, 255).float()[:, None, None]


def _quantised(plane: Tensor, steps: Tensor) -> Tensor:
    """Quantise the frequencies of a plane (B, H, W), -128..127, in blocks of 8 x 8 pixels."""
    batch, height, width = plane.shape
    blocks = plane.view(batch, height // 8, 8, width // 8, 8).transpose(2, 3)
    cosines = _cosines(plane.device)
    frequencies = ((cosines @ blocks @ cosines.mT) / steps).round() * steps
    pixels = (cosines.mT @ frequencies @ cosines).round().clamp(-128, 127)
    return pixels.transpose(2, 3).reshape(batch, height, width)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal DCT of 8 values as a matrix."""
    at = torch.arange(8, device=device)
    matrix = torch.cos((2 * at + 1) * at[:, None] * (math.pi / 16)) / 2
    matrix[0] *= math.sqrt(0.5)
    return matrix


def _halved(plane: Tensor) -> Tensor:
    """Average 2 x 2 pixels of a plane (B, H, W); libjpeg rounds halves down and up in turn."""
    sums = 4 * F.avg_pool2d(plane[:, None], 2)[:, 0]
    bias = 1 + torch.arange(sums.shape[2], device=plane.device) % 2
    return ((sums + bias) / 4).floor()


def _enlarged(plane: Tensor) -> Tensor:
    """Double a plane (B, H, W) by linear interpolation, libjpeg's "fancy upsampling"."""
    return F.interpolate(plane[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0].round()
