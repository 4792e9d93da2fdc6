"""The share of a trace's capacity over which small frames wait for their upload as long as the paper's frames."""

from __future__ import annotations

from typing import Final

AUTO: Final = "auto"
"""The factor that `capacity_scale` computes from the size of the frames."""
FULL_HD = 1920, 1080
"""(width, height) of the paper's frames."""
BYTES_EXPONENT = 0.75
"""JPEG bytes grow as this power of the pixels: frames of half the side have 0.354 of the bytes.

Measured on real footage, and hardly different for qualities from 70 to 95 (docs/traces.md). It lies below 1, as smaller
frames have more detail in each pixel.
"""


def capacity_scale(width_px: int, height_px: int) -> float:
    """Compute the factor on the rate of a trace for frames of a size, which stand for frames of 1080p.

    It is the number of bytes of such a frame relative to the same frame at 1080p, so that both take equally long.

    Args:
        width_px, height_px: of the frames; what counts is how much smaller than 1920x1080 the box around them is.
    """
    side = max(width_px / FULL_HD[0], height_px / FULL_HD[1])
    return round(min(1.0, side) ** (2 * BYTES_EXPONENT), 3)
