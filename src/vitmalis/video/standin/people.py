"""Walking people and cyclists, built from tapered limbs (capsules)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vitmalis.video.standin.textures import Colour
from vitmalis.video.standin.view import NEAR_M, Canvas, Points

SKIN: tuple[Colour, ...] = ((236, 196, 168), (214, 164, 130), (176, 124, 92), (126, 86, 62), (84, 58, 44))
HAIR: tuple[Colour, ...] = ((30, 24, 20), (60, 42, 28), (110, 80, 48), (196, 164, 108), (150, 146, 140))
CLOTH: tuple[Colour, ...] = (
    (28, 28, 32), (48, 52, 62), (34, 44, 78), (70, 88, 122), (120, 122, 124), (186, 182, 174), (232, 230, 226),
    (140, 36, 36), (40, 96, 62), (188, 152, 84), (96, 66, 48), (210, 110, 60), (92, 60, 110), (60, 130, 160),
    (214, 90, 130),
)  # fmt: skip

Limb = tuple[tuple[float, float, float], tuple[float, float, float], float, float, Colour]
"""A tapered stroke: its two ends (x, y, z ahead, metres), the radius at each in metres, and the colour."""


@dataclass(frozen=True)
class Person:
    """Appearance of one person, a pure function of the random generator given to `of`."""

    height_m: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    style: str
    long_hair: bool
    bag: Colour | None
    umbrella: Colour | None
    phase: float
    lively: float

    @classmethod
    def of(cls, rng: np.random.Generator, umbrella_share: float = 0.0) -> Person:
        """Draw a random person, who carries an umbrella with the probability `umbrella_share`."""

        def cloth() -> Colour:
            r, g, b = np.clip(np.array(CLOTH[rng.integers(len(CLOTH))]) * rng.uniform(0.75, 1.2), 0, 255)
            return float(r), float(g), float(b)

        child = rng.random() < 0.08
        return cls(
            height_m=float(rng.uniform(1.1, 1.4) if child else np.clip(rng.normal(1.71, 0.09), 1.5, 1.98)),
            girth=float(rng.uniform(0.85, 1.25)),
            skin=SKIN[rng.integers(len(SKIN))],
            hair=HAIR[rng.integers(len(HAIR))],
            top=cloth(),
            bottom=cloth() if rng.random() < 0.5 else CLOTH[rng.integers(4)],
            shoes=CLOTH[rng.choice([0, 1, 5, 6, 10])],
            style=str(rng.choice(["plain", "plain", "coat", "skirt", "shorts", "short sleeves", "short sleeves"])),
            long_hair=bool(rng.random() < 0.4),
            bag=cloth() if rng.random() < 0.35 else None,
            umbrella=cloth() if rng.random() < umbrella_share else None,
            phase=float(rng.uniform(0, 2 * np.pi)),
            lively=float(rng.uniform(0.8, 1.15)),
        )

    def walking(self, time_s: float, speed_m_s: float) -> list[Limb]:
        """Limbs at `time_s` while walking, or standing if the speed is near 0."""
        pace = min(abs(speed_m_s) / 1.3, 1.6)
        cycle = self.phase + 2 * np.pi * 0.95 * self.lively * max(pace, 0.6) ** 0.5 * time_s
        swing = 0.48 * min(pace, 1.3)
        h = self.height_m
        hip_y = (0.515 + 0.012 * math.cos(2 * cycle) * min(pace, 1)) * h
        limbs: list[Limb] = []
        for side in (-1.0, 1.0):
            angle = swing * math.sin(cycle + (np.pi if side > 0 else 0)) + (0.06 * side if pace < 0.1 else 0)
            bend = max(0.0, 1.0 * swing * math.cos(cycle + (np.pi if side > 0 else 0))) + 0.08
            limbs += self._leg(side, (side * 0.085 * self.girth, hip_y, 0.0), angle, bend)
        for side in (-1.0, 1.0):
            angle = 0.8 * swing * math.sin(cycle + (0 if side > 0 else np.pi))
            raised = self.umbrella is not None and side > 0
            limbs += self._arm(side, 0.815 * h, 0.0, -0.5 if raised else angle, 2.0 if raised else 0.35)
        return limbs + self._body(hip_y, 0.0)

    def riding(self, time_s: float, speed_m_s: float) -> list[Limb]:
        """Limbs at `time_s` while riding a bicycle whose centre is at the ground point."""
        cycle = self.phase + time_s * speed_m_s / 0.9
        limbs: list[Limb] = []
        for side in (-1.0, 1.0):
            turn = cycle + (np.pi if side > 0 else 0)
            pedal = np.array([side * 0.11, 0.30 + 0.16 * np.sin(turn), 0.08 + 0.16 * np.cos(turn)])
            hip = np.array([side * 0.08, 0.95, -0.22])
            knee = (hip + pedal) / 2 + np.array([0, 0.10, 0.24])
            limbs += [
                (tuple(hip), tuple(knee), 0.085 * self.girth, 0.06, self.bottom),
                (tuple(knee), tuple(pedal), 0.058, 0.045, self.skin if self.style == "shorts" else self.bottom),
                (tuple(pedal), (side * 0.11, pedal[1] - 0.03, pedal[2] + 0.14), 0.04, 0.035, self.shoes),
                ((side * 0.17, 1.40, 0.05), (side * 0.24, 1.15, 0.26), 0.055, 0.045, self.top),
                ((side * 0.24, 1.15, 0.26), (side * 0.24, 1.02, 0.46), 0.04, 0.035, self.skin),
            ]
        return limbs + self._body(0.95, 0.27, self.height_m * 0.5)

    def _leg(self, side: float, hip: tuple[float, float, float], angle: float, bend: float) -> list[Limb]:
        length = 0.245 * self.height_m
        knee = (hip[0], hip[1] - length * math.cos(angle), hip[2] + length * math.sin(angle))
        shin = angle - bend
        ankle = (hip[0], max(0.05, knee[1] - length * math.cos(shin)), knee[2] + length * math.sin(shin))
        bare = self.style in ("shorts", "skirt")
        return [
            (hip, knee, 0.088 * self.girth, 0.062, self.skin if self.style == "skirt" else self.bottom),
            (knee, ankle, 0.060, 0.042, self.skin if bare else self.bottom),
            (ankle, (ankle[0], ankle[1] - 0.02, ankle[2] + 0.15), 0.045, 0.035, self.shoes),
        ]

    def _arm(self, side: float, shoulder_y: float, lean: float, angle: float, bend: float) -> list[Limb]:
        upper, lower = 0.17 * self.height_m, 0.155 * self.height_m
        x = side * 0.20 * self.girth
        elbow = (x * 1.12, shoulder_y - upper * math.cos(angle), lean + upper * math.sin(angle))
        wrist = (x * 1.1, elbow[1] - lower * math.cos(angle + bend), elbow[2] + lower * math.sin(angle + bend))
        sleeve = self.skin if self.style in ("short sleeves", "shorts") else self.top
        return [
            ((x, shoulder_y, lean), elbow, 0.055 * self.girth, 0.045, self.top),
            (elbow, wrist, 0.043, 0.036, sleeve),
            (wrist, (wrist[0], wrist[1] - 0.07, wrist[2] + 0.02), 0.036, 0.03, self.skin),
        ]

    def _body(self, hip_y: float, lean: float, height: float | None = None) -> list[Limb]:
        """Trunk, head and accessories; the shoulders are `lean` metres ahead of the hips."""
        h = self.height_m
        shoulder_y = hip_y + 0.29 * h
        z0 = -0.22 if height else 0.0
        z1, head_y = z0 + lean, shoulder_y + 0.115 * h
        g = self.girth
        trunk: list[Limb] = [((0, hip_y, z0), (0, hip_y + 0.06, z0), 0.15 * g, 0.145 * g, self.bottom)]
        if self.style == "coat" and not height:
            trunk.append(((0, 0.30 * h, 0), (0, hip_y, 0), 0.19 * g, 0.16 * g, self.top))
        if self.style == "skirt" and not height:
            trunk.append(((0, 0.33 * h, 0), (0, hip_y, 0), 0.20 * g, 0.14 * g, self.bottom))
        trunk += [
            ((x * 0.6, hip_y + 0.07, z0), (x, shoulder_y - 0.08, z1), 0.115 * g, 0.125 * g, self.top)
            for x in (-0.075 * g, 0.075 * g)
        ]
        trunk += [
            ((0, shoulder_y, z1), (0, head_y - 0.05, z1 + 0.01), 0.055, 0.05, self.skin),
            ((0, head_y - 0.045, z1 + 0.02), (0, head_y + 0.03, z1 + 0.01), 0.074, 0.085, self.skin),
            ((0, head_y + 0.03, z1 - 0.035), (0, head_y + 0.055, z1 - 0.01), 0.082, 0.086, self.hair),
        ]
        if self.long_hair:
            trunk.append(((0, head_y + 0.03, z1 - 0.05), (0, head_y - 0.17, z1 - 0.07), 0.08, 0.07, self.hair))
        if self.bag is not None:
            trunk.append(((0.0, shoulder_y - 0.38, z1 - 0.19), (0, shoulder_y - 0.1, z1 - 0.19), 0.13, 0.11, self.bag))
        if self.umbrella is not None:
            grip = (0.22, shoulder_y - 0.15, z1 + 0.2)
            trunk.append((grip, (0.1, head_y + 0.45, z1 + 0.05), 0.012, 0.012, (60, 60, 60)))
            for x in (-0.34, 0.0, 0.34):
                tip = (0.1 + x, head_y + 0.30 - 0.18 * abs(x), z1 + 0.05)
                trunk.append((tip, (0.1 + x * 0.4, head_y + 0.40, z1 + 0.05), 0.10, 0.08, self.umbrella))
        return trunk


def bicycle(colour: Colour, roll: float) -> list[Limb]:
    """Limbs of a bicycle around its ground point, z ahead, with its wheels turned by `roll` radians."""
    limbs: list[Limb] = []
    tyre, metal = (28.0, 28.0, 30.0), (150.0, 150.0, 155.0)
    angles = np.linspace(0, 2 * np.pi, 15)
    for hub in (-0.52, 0.53):
        rim = [(0.0, 0.34 + 0.33 * math.sin(a), hub + 0.33 * math.cos(a)) for a in angles]
        limbs += [(a, b, 0.024, 0.024, tyre) for a, b in pairwise(rim)]
        for a in roll + np.arange(3) * np.pi / 3:
            y, z = 0.31 * math.sin(a), 0.31 * math.cos(a)
            limbs.append(((0, 0.34 - y, hub - z), (0, 0.34 + y, hub + z), 0.004, 0.004, metal))
    saddle, crank, head, bar = (0.0, 0.88, -0.24), (0.0, 0.30, 0.02), (0.0, 0.88, 0.40), (0.0, 1.0, 0.42)
    rear, front = (0.0, 0.34, -0.52), (0.0, 0.34, 0.53)
    for a, b in ((saddle, crank), (crank, head), (saddle, head), (rear, crank), (rear, saddle), (front, bar)):
        limbs.append((a, b, 0.022, 0.022, colour))
    limbs.append(((-0.26, 1.02, 0.44), (0.26, 1.02, 0.44), 0.02, 0.02, tyre))
    limbs.append(((0, 0.93, -0.34), (0, 0.94, -0.12), 0.06, 0.03, tyre))
    return limbs


def draw_limbs(canvas: Canvas, limbs: list[Limb], position: Points, heading: float) -> None:
    """Paint limbs at a world position (3,), turned right by `heading` radians, the nearest last."""
    rows = np.array([(*limb[0], *limb[1], *limb[2:4], *limb[4]) for limb in limbs], np.float32)
    ends = rows[:, :6].reshape(-1, 2, 3)
    c, s = math.cos(heading), math.sin(heading)
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
    camera = canvas.view.to_camera(ends @ turn + position)
    if camera[..., 2].min() < NEAR_M:
        return
    order = np.argsort(-camera[..., 2].sum(1), kind="stable")
    rows, camera = rows[order], camera[order]
    uv = canvas.view.to_pixels(camera)
    radii = np.maximum(rows[:, 6:8] * canvas.view.focal_px / camera[..., 2], 0.45)
    depth = float(camera[0, 0, 2])
    polygons = list(capsules(uv, radii))
    if canvas.ambient < 0.8 and float(radii.max()) > 4:
        side = 0.35 if float(canvas.view.rotation[0] @ canvas.sun) > 0 else -0.35
        lit = capsules(uv + radii.mean(1)[:, None, None] * np.array([side, -0.1], np.float32), radii * 0.55)
        dark = canvas.tones(rows[:, 8:], depth, 0.55 + 0.4 * canvas.ambient)
        polygons = [polygon for pair in zip(polygons, lit, strict=True) for polygon in pair]
        bright = canvas.tones(rows[:, 8:], depth, 1.05)
        canvas.fill(polygons, [colour for pair in zip(dark, bright, strict=True) for colour in pair])
    else:
        canvas.fill(polygons, canvas.tones(rows[:, 8:], depth, 0.95))


def capsules(ends: Points, radii: Points) -> NDArray[np.float32]:
    """Outlines (K, 14, 2) of K rounded, tapered strokes: ends (K, 2, 2) and radii (K, 2), pixels."""
    a, b = ends[:, 0], ends[:, 1]
    along = b - a
    length = np.linalg.norm(along, axis=1, keepdims=True)
    d = np.where(length > 1e-3, along / np.maximum(length, 1e-3), np.array([0.0, 1.0], np.float32))
    n = np.stack([-d[:, 1], d[:, 0]], 1)
    r0, r1 = radii[:, :1], radii[:, 1:]
    turns = np.linspace(0, np.pi, 7, dtype=np.float32)[:, None]
    across, back = np.cos(turns) * n[:, None], np.sin(turns) * d[:, None]
    rim = np.concatenate([a[:, None] + r0[:, None] * (across - back), b[:, None] + r1[:, None] * (back - across)], 1)
    return rim.astype(np.float32)
