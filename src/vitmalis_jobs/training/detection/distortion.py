"""Photometric distortion: random changes of a training image's light, colours, sharpness and coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distortion:
    """Changes of an image of values 0..1, applied in this order; the defaults change nothing.

    Attributes:
        contrast: factor of the differences from the image's mean.
        gain: factor of all values.
        cast: factors of red, green and blue.
        saturation: factor of the differences from each pixel's mean; 0 gives a grey image. Then values are clipped.
        gamma: exponent of all values.
        dimming: factor of all values.
        blur_px: standard deviation of a Gaussian blur; 0 for none.
        noise: standard deviation of Gaussian noise, the same for the three colours; 0 for none.
        noise_seed: of the noise. Then values are clipped and rounded to 8 bits.
        jpeg_quality: of the JPEG that the image is coded as, 1 to 100; 0 for none.
    """

    contrast: float = 1.0
    gain: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    gamma: float = 1.0
    dimming: float = 1.0
    blur_px: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    jpeg_quality: int = 0


def random_distortion(rng: np.random.Generator) -> Distortion:
    """Draw a distortion, each part of it with its own probability."""
    lit = rng.random() < 0.8
    contrast, gain = (rng.uniform(0.7, 1.35), rng.uniform(0.75, 1.3)) if lit else (1.0, 1.0)
    red, green, blue = rng.uniform(0.88, 1.12, size=3) if rng.random() < 0.5 else (1.0, 1.0, 1.0)
    return Distortion(
        contrast=contrast,
        gain=gain,
        cast=(float(red), float(green), float(blue)),
        saturation=_random_saturation(rng),
        gamma=rng.uniform(0.65, 1.5) if rng.random() < 0.4 else 1.0,
        dimming=rng.uniform(0.25, 0.6) if rng.random() < 0.1 else 1.0,
        blur_px=rng.uniform(0.4, 1.3) if rng.random() < 0.15 else 0.0,
        noise=rng.uniform(0.005, 0.035) if rng.random() < 0.25 else 0.0,
        noise_seed=int(rng.integers(2**32)),
        jpeg_quality=int(rng.integers(60, 101)) if rng.random() < 0.6 else 0,
    )


def _random_saturation(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.15:
        return 0.0
    return rng.uniform(0.4, 1.5) if kind < 0.6 else 1.0
