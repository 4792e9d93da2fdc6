"""Textures of the stand-in street: 1/f noise, facades, ground, trees, rain. RGB uint8 unless stated otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PX_PER_M = 26
"""Texture pixels in a metre of wall or ground."""
GROUND_X_M = 36.0
GROUND_Z_M = 24.0
"""The ground tile repeats after this many metres across and along the street."""

Colour = tuple[float, float, float]
FloatImage = NDArray[np.float32]
Image = NDArray[Any]
"""An image of any element type, as OpenCV's type stubs return it."""


@lru_cache(maxsize=8)
def fractal_noise(size: int, seed: int, exponent: float = 1.0) -> FloatImage:
    """Periodic noise (size, size) whose amplitude falls as 1/f**exponent, as in natural images; mean 0, deviation 1."""
    rng = np.random.default_rng([seed, size])
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1.0
    spectrum = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    field = np.fft.irfft2(spectrum / frequency**exponent, (size, size))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def crop_noise(rng: np.random.Generator, height: int, width: int, exponent: float = 1.0) -> FloatImage:
    """A random window (height, width) of the noise, repeated where larger than it."""
    noise = fractal_noise(512, 7, exponent)
    y, x = rng.integers(0, 512, 2)
    return np.take(np.take(noise, np.arange(y, y + height) % 512, 0), np.arange(x, x + width) % 512, 1)


def _textured(rng: np.random.Generator, colour: Colour, height: int, width: int, contrast: float) -> FloatImage:
    coarse = 1 + contrast * crop_noise(rng, height, width)
    fine = 1 + 0.5 * contrast * rng.normal(size=(height, width)).astype(np.float32)
    return (coarse * fine)[..., None] * np.asarray(colour, np.float32)


def _rect(image: NDArray, x: float, y: float, w: float, h: float, colour: Sequence[float] | NDArray[Any]) -> None:
    """Fill a rectangle given in metres from the top left corner."""
    a, b = (round(x * PX_PER_M), round(y * PX_PER_M)), (round((x + w) * PX_PER_M), round((y + h) * PX_PER_M))
    cv2.rectangle(image, a, b, tuple(float(c) for c in colour), cv2.FILLED)


def _window(image: NDArray, rng: np.random.Generator, x: float, y: float, w: float, h: float, lit: float) -> None:
    frame = rng.choice([235.0, 200.0, 60.0, 110.0])
    glass = np.array([70, 85, 100]) * rng.uniform(0.5, 1.6)
    if rng.random() < lit:
        glass = np.array([255, 205, 130]) * rng.uniform(1.5, 3.2)
    _rect(image, x - 0.08, y - 0.08, w + 0.16, h + 0.16, [frame] * 3)
    _rect(image, x, y, w, h, glass)
    if rng.random() < 0.6:  # blind or curtain
        _rect(image, x, y, w, h * rng.uniform(0.2, 0.7), glass * 0.5 + 90)
    _rect(image, x + w / 2 - 0.03, y, 0.06, h, [frame] * 3)
    _rect(image, x, y + h * 0.4, w, 0.05, [frame] * 3)
    _rect(image, x - 0.15, y + h + 0.08, w + 0.3, 0.1, [frame * 0.8] * 3)


def _shop(image: NDArray, rng: np.random.Generator, width_m: float, top_m: float, height_m: float, lit: float) -> None:
    """Paint a shop front: a sign with letter-like strokes, goods behind glass, and sometimes an awning."""
    glow = rng.uniform(1.2, 2.4) if rng.random() < lit else 1.0
    sign = rng.uniform(30, 210) + rng.normal(0, 28, 3)
    _rect(image, 0.2, top_m, width_m - 0.4, 0.7, sign * glow)
    ink = np.where(sign.mean() > 120, 20.0, 240.0) * np.ones(3) * glow
    x = rng.uniform(0.5, 1.5)
    while x < width_m - 1.2:
        _rect(image, x, top_m + 0.18, rng.uniform(0.08, 0.3), 0.36, ink)
        x += rng.uniform(0.3, 0.5) if rng.random() < 0.85 else 0.9
    x = 0.4
    while x < width_m - 1.5:
        pane = min(rng.uniform(1.4, 3.0), width_m - 0.4 - x)
        _rect(image, x, top_m + 0.9, pane - 0.15, height_m - 1.2, np.array([60, 62, 66]) * glow)
        for _ in range(int(pane * 7)):
            goods = (rng.uniform(20, 150) + rng.normal(0, 22, 3)) * glow
            gx, gy = rng.uniform(x, x + pane - 0.5), rng.uniform(top_m + 1.0, top_m + height_m - 0.9)
            _rect(image, gx, gy, rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.6), goods)
        x += pane
    if rng.random() < 0.4:
        stripe = rng.uniform(60, 230, 3)
        for i in range(int(width_m / 0.4)):
            _rect(image, i * 0.4, top_m + 0.6, 0.38, 0.7, stripe if i % 2 else (225, 220, 210))


def facade(
    rng: np.random.Generator,
    width_m: float,
    height_m: float,
    palette: Sequence[Colour],
    lit: float,
    exposure: float,
    shop: bool,
) -> Image:
    """A house front whose bottom row is at street level; `lit` is the share of lit windows.

    The brightness of lit windows does not depend on the exposure of the walls.
    """
    h, w = round(height_m * PX_PER_M), round(width_m * PX_PER_M)
    image = np.ascontiguousarray(_textured(rng, palette[int(rng.integers(len(palette)))], h, w, 0.07))
    if rng.random() < 0.5:
        image[:: round(0.3 * PX_PER_M)] *= 0.86
    storey = rng.uniform(2.8, 3.6)
    bay = rng.uniform(1.9, 3.2)
    win_w, win_h = bay * rng.uniform(0.4, 0.7), storey * rng.uniform(0.45, 0.65)
    ground_floor = 3.4 if shop else 0.0
    y = height_m - ground_floor - storey
    while y > 0.3:
        for x in np.arange((width_m % bay) / 2 + (bay - win_w) / 2, width_m - win_w, bay):
            _window(image, rng, float(x), y + 0.5, win_w, win_h, lit)
        y -= storey
    _rect(image, 0, 0, width_m, 0.35, rng.uniform(60, 200) * np.ones(3))
    if shop:
        _shop(image, rng, width_m, height_m - ground_floor + 0.1, ground_floor - 0.2, lit * 1.5)
    elif height_m > 2.8:
        _rect(image, width_m * rng.uniform(0.3, 0.6), height_m - 2.2, 1.0, 2.2, rng.uniform(20, 140, 3))
    image *= (1 + 0.05 * crop_noise(rng, h, w))[..., None] * exposure
    return np.clip(image, 0, 255).astype(np.uint8)


def hedge(rng: np.random.Generator, width_m: float, height_m: float, colour: Colour, exposure: float) -> Image:
    """Leaves of a hedge or of the edge of a field."""
    h, w = round(height_m * PX_PER_M), round(width_m * PX_PER_M)
    leaves = 1 + 0.28 * crop_noise(rng, h, w, 0.6) + 0.12 * rng.normal(size=(h, w)).astype(np.float32)
    light = exposure * np.linspace(1.2, 0.55, h, dtype=np.float32)[:, None]
    return np.clip((leaves * light)[..., None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)


def ground(
    rng: np.random.Generator,
    strips: Sequence[tuple[float, float, Colour, float]],
    lines: Sequence[tuple[float, float, float]],
    slabs: bool,
) -> Image:
    """The street seen from above: rows along the street, columns across it, x from -GROUND_X_M / 2.

    Args:
        rng: source of the texture.
        strips: (x0, x1, colour, contrast) in metres, later ones on top.
        lines: (x, width, dash) of painted lines; dash 0 is continuous, else the length of paint and gap in metres.
        slabs: draw the joints of paving slabs in the first strip.
    """
    h, w = round(GROUND_Z_M * PX_PER_M), round(GROUND_X_M * PX_PER_M)
    image = np.zeros((h, w, 3), np.float32)

    def columns(x0: float, x1: float) -> slice:
        left, right = (int(np.clip((x + GROUND_X_M / 2) * PX_PER_M, 0, w)) for x in (x0, x1))
        return slice(left, right)

    for x0, x1, colour, contrast in strips:
        part = columns(x0, x1)
        image[:, part] = _textured(rng, colour, h, part.stop - part.start, contrast)
        if slabs and (x0, x1) == strips[0][:2]:
            image[:: round(0.6 * PX_PER_M), part] *= 0.82
            image[:, part][:, :: round(0.6 * PX_PER_M)] *= 0.82
        if x0 > -GROUND_X_M / 2:
            image[:, columns(x0 - 0.12, x0 + 0.12)] *= 0.75  # kerb or edge
    for x, width, dash in lines:
        paint = image[:, columns(x - width / 2, x + width / 2)]
        for z in np.arange(0, GROUND_Z_M, 2 * dash) if dash else [0.0]:
            rows = slice(int(z * PX_PER_M), int((z + (dash or GROUND_Z_M)) * PX_PER_M))
            paint[rows] = 205 * (1 + 0.10 * crop_noise(rng, *paint[rows].shape[:2]))[..., None]
    for _ in range(8):  # patches, covers, stains
        centre = (int(rng.integers(w)), int(rng.integers(h)))
        axes = (int(rng.integers(4, 30)), int(rng.integers(4, 40)))
        patch = np.zeros((h, w), np.float32)
        cv2.ellipse(patch, centre, axes, 0, 0, 360, 1.0, cv2.FILLED)
        image *= 1 - rng.uniform(0.03, 0.2) * patch[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def tree(rng: np.random.Generator, kind: str) -> Image:
    """A tree, palm or shrub as RGBA uint8 (320, 256, 4), with its foot at the bottom centre."""
    h, w = 320, 256
    greens = ((70, 98, 40), (90, 110, 52), (58, 84, 44), (104, 112, 50))
    colour = np.array(greens[int(rng.integers(4))], np.float32) * np.float32(rng.uniform(0.8, 1.2))
    alpha = np.zeros((h, w), np.uint8)
    trunk = np.zeros((h, w), np.uint8)
    lean = int(rng.integers(-14, 15))
    cv2.line(
        trunk,
        (w // 2, h),
        (w // 2 + lean, h // 3),
        255,
        int(rng.integers(7, 13)) if kind == "palm" else 14,
        cv2.LINE_AA,
    )
    if kind == "palm":
        for angle in rng.uniform(0, 2 * np.pi, 26):
            reach, drop = rng.uniform(50, 100), rng.uniform(5, 60)
            s = np.linspace(0, 1, 8)
            x = w / 2 + lean + np.cos(angle) * reach * s
            y = h / 3 - np.abs(np.sin(angle)) * 40 * s + drop * s**2
            cv2.polylines(
                alpha, [np.stack([x, y], 1).astype(np.int32)], False, 255, int(rng.integers(4, 9)), cv2.LINE_AA
            )
    else:
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        crown = np.full((h, w), -9.0, np.float32)
        for _ in range(int(rng.integers(7, 12))):
            cx, cy = (
                w / 2 + rng.uniform(-62, 62),
                h * (rng.uniform(0.18, 0.6) if kind == "tree" else rng.uniform(0.5, 0.85)),
            )
            rx, ry = rng.uniform(40, 68, 2)
            crown = np.maximum(crown, 1 - ((xx - cx) / rx) ** 2 - ((yy - cy) / ry) ** 2)
        alpha = np.clip((crown + 0.3 * crop_noise(rng, h, w, 0.8)) * 400, 0, 255).astype(np.uint8)
    leaves = 1 + 0.3 * crop_noise(rng, h, w, 0.5) - 0.5 * np.linspace(-0.6, 0.9, h, dtype=np.float32)[:, None]
    rgb = leaves[..., None] * colour
    bark = (1 + 0.2 * crop_noise(rng, h, w))[..., None] * np.array([88, 72, 58], np.float32)
    rgb = np.where((alpha > 60)[..., None], rgb, bark)
    return np.dstack([np.clip(rgb, 0, 255).astype(np.uint8), np.maximum(alpha, trunk)])


@lru_cache(maxsize=4)
def rain_streaks(height: int, width: int) -> Image:
    """Falling drops blurred by the exposure, uint8 (height, width), to be shifted and added."""
    rng = np.random.default_rng(3)
    drops = (rng.random((height, width)) > 0.9985).astype(np.float32) * rng.uniform(0.3, 1.0, (height, width))
    kernel = np.zeros((25, 25), np.float32)
    cv2.line(kernel, (10, 0), (14, 24), 1.0, 1, cv2.LINE_AA)
    streaks = cv2.filter2D(drops.astype(np.float32), -1, kernel)
    return np.clip(streaks * 45, 0, 255).astype(np.uint8)
