"""Random meshes of cars, buses and trucks; x right, y up, z ahead, metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitmalis.video.standin.mesh import DARK, Mesh, Outline, rectangle
from vitmalis.video.standin.textures import Colour

PAINT: tuple[Colour, ...] = (
    (225, 225, 228), (225, 225, 228), (30, 30, 34), (30, 30, 34), (120, 124, 130), (170, 174, 180), (130, 24, 28),
    (28, 50, 110), (60, 84, 70), (190, 160, 110), (200, 120, 30), (80, 40, 44), (90, 130, 170), (236, 190, 40),
)  # fmt: skip
BUS_PAINT: tuple[Colour, ...] = (
    (180, 30, 30), (40, 80, 150), (230, 228, 220), (50, 120, 80), (230, 180, 40), (230, 120, 30),
)  # fmt: skip
GLASS: Colour = (52, 62, 72)
_LAMP: Colour = (235, 232, 220)
_RED: Colour = (150, 20, 22)
_BEAM: Colour = (255, 244, 220)
_GLOW: Colour = (255, 30, 20)


@dataclass(frozen=True)
class _Shape:
    """Proportions of a car: metres, or shares of its length (`bonnet`, `roof`, `rear`) and height (`waist`)."""

    length: float
    height: float
    waist: float
    bonnet: float
    roof: tuple[float, float]
    rear: float
    wheel: float = 0.31
    taper: float = 0.78


_SHAPES = {
    "saloon": _Shape(4.6, 1.43, 0.60, 0.26, (-0.22, 0.03), -0.40),
    "hatch": _Shape(4.0, 1.48, 0.60, 0.29, (-0.36, 0.04), -0.475),
    "suv": _Shape(4.6, 1.68, 0.60, 0.27, (-0.40, 0.04), -0.485, wheel=0.35),
    "van": _Shape(5.0, 1.98, 0.52, 0.36, (-0.47, 0.16), -0.495, taper=0.9),
}


def car(rng: np.random.Generator) -> Mesh:
    """Draw a random saloon, hatchback, off-road car or van."""
    kind = str(rng.choice(["saloon", "saloon", "hatch", "hatch", "suv", "suv", "van"]))
    shape = _SHAPES[kind]
    length, height = shape.length * rng.uniform(0.95, 1.05), shape.height * rng.uniform(0.97, 1.04)
    wide = 0.9 * rng.uniform(0.96, 1.05)
    r, g, b = (np.array(PAINT[rng.integers(len(PAINT))]) * rng.uniform(0.8, 1.08)).tolist()
    paint: Colour = (r, g, b)
    m, e = Mesh(half=(wide, length / 2)), length / 2
    waist = shape.waist * height
    nose, bonnet = waist * 0.84, shape.bonnet * length
    body = [
        (-e + 0.1, 0.22),
        (-e, 0.45),
        (-e + 0.04, waist),
        (bonnet, waist),
        (e - 0.12, nose),
        (e, 0.5),
        (e - 0.1, 0.22),
    ]
    m.prism(body, wide, wide * 0.96, [DARK, paint, paint, paint, paint, DARK, DARK, paint])
    m.flank(wide * 0.985, rectangle(-e + 0.15, 0.24, e - 0.15, 0.36), DARK)
    m.flank(wide * 0.985, rectangle(-0.1, 0.4, -0.08, waist), DARK)
    rear, (roof_rear, roof_front) = shape.rear * length, shape.roof
    cabin = [(rear, waist), (roof_rear * length, height), (roof_front * length, height), (bonnet + 0.12, waist)]
    m.prism(cabin, wide * 0.95, wide * shape.taper, [paint])
    _glazing(m, cabin, wide * 0.95, wide * shape.taper, blind=kind == "van")
    m.wheels(wide * 0.96, (-0.31 * length, 0.315 * length), shape.wheel)
    for side in (-1.0, 1.0):
        x = side * wide * 0.74
        m.end(e + 0.005, x, nose - 0.13, 0.36, 0.16, _LAMP)
        m.end(-e - 0.005, x, waist - 0.16, 0.3, 0.18, _RED)
        m.lamps.append(((x, nose - 0.13, e), _BEAM, 0.16, "head"))
        m.lamps.append(((x, waist - 0.16, -e), _GLOW, 0.11, "tail"))
        m.flank(wide * 1.0, rectangle(bonnet - 0.25, waist, bonnet, waist + 0.13), paint)
    m.end(e + 0.005, 0, nose - 0.14, wide * 0.9, 0.14, DARK)
    m.end(e + 0.006, 0, 0.42, 0.5, 0.11, (230, 230, 220))
    m.end(-e - 0.005, 0, 0.62, 0.5, 0.11, (230, 225, 190))
    m.end(-e - 0.004, 0, 0.33, wide * 1.8, 0.16, DARK)
    return m


def _glazing(m: Mesh, cabin: Outline, low: float, high: float, blind: bool) -> None:
    """Windscreen, rear window and side windows in the cabin (rear base, rear roof, front roof, front base)."""
    (z0, y0), (z1, y1), (z2, _), (z3, _) = cabin
    a, b = 0.1, 0.88
    ya, yb = y0 + a * (y1 - y0), y0 + b * (y1 - y0)
    for base, roof, out in ((z0, z1, -1.0), (z3, z2, 1.0)):
        za, zb = base + a * (roof - base), base + b * (roof - base)
        xa, xb = 0.9 * (low + a * (high - low)), 0.9 * (low + b * (high - low))
        m.face([(-xa, ya, za), (xa, ya, za), (xb, yb, zb), (-xb, yb, zb)], GLASS, (0, 0.3, out), 0.5)
    middle = (z1 + z2) / 2 - 0.1
    rear, front = z0 + 0.2 + a * (z1 - z0), z3 - 0.2 + a * (z2 - z3)
    panes = [] if blind else [(rear, middle - 0.05, middle - 0.05, z1 + 0.08)]
    panes.append((middle + 0.05, front, z2 - 0.05, middle + 0.05))
    for side in (-1.0, 1.0):
        xa, xb = side * (low + a * (high - low)), side * (low + b * (high - low))
        for p, q, r, s in panes:
            m.face([(xa, ya, p), (xa, ya, q), (xb, yb, r), (xb, yb, s)], GLASS, (side, 0, 0), 0.3)


def bus(rng: np.random.Generator) -> Mesh:
    """Draw a random city bus."""
    e, wide, height = rng.uniform(4.6, 6.0), 1.25, rng.uniform(2.9, 3.3)
    paint = BUS_PAINT[rng.integers(len(BUS_PAINT))]
    lower: Colour = paint if rng.random() < 0.6 else (228, 226, 220)
    m = Mesh(half=(wide, e))
    body = [(-e, 0.35), (-e, height - 0.1), (-e + 0.2, height), (e - 0.2, height), (e, height - 0.2), (e, 0.35)]
    m.prism(body, wide, wide * 0.97, [paint])
    m.flank(wide * 0.999, rectangle(-e, 0.35, e, 1.1), lower)
    step = rng.uniform(1.2, 1.7)
    for z in np.arange(-e + 0.3, e - step - 0.2, step):
        m.flank(wide * 0.99, rectangle(z, 1.35, z + step - 0.1, height - 0.6), GLASS)
    m.flank(wide * 0.995, rectangle(e - 1.5, 0.45, e - 0.4, height - 0.6), (40, 46, 54))
    m.end(e + 0.01, 0, height * 0.56, wide * 1.85, height * 0.44, GLASS)
    m.end(e + 0.01, 0, height - 0.3, wide * 1.4, 0.28, (24, 24, 20))
    m.end(e + 0.02, 0, height - 0.3, wide * 0.8, 0.14, (250, 170, 40))
    m.end(-e - 0.01, 0, height * 0.66, wide * 1.6, height * 0.28, GLASS)
    m.end(-e - 0.01, 0, 0.5, wide * 1.9, 0.25, DARK)
    m.end(e + 0.01, 0, 0.5, wide * 1.9, 0.25, DARK)
    m.wheels(wide * 0.97, (-e * 0.5, e * 0.58), 0.48)
    _big_lamps(m, wide, e)
    return m


def truck(rng: np.random.Generator) -> Mesh:
    """Draw a random delivery truck with cab and box."""
    e, wide, height = rng.uniform(3.0, 4.5), 1.2, rng.uniform(2.6, 3.5)
    paint, box = PAINT[rng.integers(len(PAINT))], PAINT[rng.choice([0, 0, 4, 5, 6, 7, 9])]
    m = Mesh(half=(wide, e))
    split, cab = e - 1.9, 2.35
    m.prism([(-e, 0.5), (-e, 0.75), (e, 0.75), (e, 0.5)], wide * 0.8, wide * 0.8, [DARK])
    m.prism([(-e, 0.75), (-e, height), (split, height), (split, 0.75)], wide, wide, [box])
    front = [(split + 0.1, 0.45), (split + 0.1, cab), (e - 0.35, cab), (e, 1.35), (e, 0.45)]
    m.prism(front, wide * 0.95, wide * 0.9, [paint])
    band = rectangle(-e + 0.4, height * 0.55, split - 0.4, height * 0.72)
    m.flank(wide * 1.002, [*band[:3], (-e + 0.8, height * 0.72)], PAINT[rng.integers(len(PAINT))])
    screen = [
        (-1.02, 1.45, e - 0.02),
        (1.02, 1.45, e - 0.02),
        (0.95, cab - 0.15, e - 0.3),
        (-0.95, cab - 0.15, e - 0.3),
    ]
    m.face(screen, GLASS, (0, 0.3, 1), 0.5)
    m.flank(wide * 0.94, [(split + 0.5, 1.4), (e - 0.15, 1.4), (e - 0.45, cab - 0.2), (split + 0.5, cab - 0.2)], GLASS)
    m.end(e + 0.01, 0, 0.95, wide * 1.2, 0.3, DARK)
    m.end(e + 0.01, 0, 0.55, wide * 1.8, 0.2, (60, 60, 62))
    m.end(-e - 0.01, 0, (height + 0.75) / 2, 0.05, height - 0.9, DARK)
    m.wheels(wide * 0.95, (-e * 0.55, e * 0.66), 0.45)
    _big_lamps(m, wide, e)
    return m


def _big_lamps(m: Mesh, wide: float, e: float) -> None:
    for side in (-1.0, 1.0):
        x = side * wide * 0.8
        m.end(e + 0.02, x, 0.75, 0.34, 0.22, _LAMP)
        m.end(-e - 0.02, x, 0.85, 0.2, 0.34, _RED)
        m.lamps.append(((x, 0.75, e), _BEAM, 0.18, "head"))
        m.lamps.append(((x, 0.85, -e), _GLOW, 0.13, "tail"))
