"""Cars, buses, trucks and traffic lights as small painted meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitmalis.video.standin.people import Limb, draw_limbs
from vitmalis.video.standin.textures import Colour
from vitmalis.video.standin.view import NEAR_M, SCENERY, Canvas, Light, Points, clip_near

PAINT: tuple[Colour, ...] = (
    (225, 225, 228), (225, 225, 228), (30, 30, 34), (30, 30, 34), (120, 124, 130), (170, 174, 180), (130, 24, 28),
    (28, 50, 110), (60, 84, 70), (190, 160, 110), (200, 120, 30), (80, 40, 44), (90, 130, 170), (236, 190, 40),
)  # fmt: skip
GLASS: Colour = (52, 62, 72)
DARK: Colour = (26, 26, 28)
CHROME: Colour = (170, 172, 176)
_LAMP: Colour = (235, 232, 220)
_RED: Colour = (150, 20, 22)


@dataclass(frozen=True)
class _Packed:
    """A mesh as arrays: vertices (V, 3) and, per face, first vertex, vertices, outward normal, colour, gloss."""

    vertices: Points
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    normals: Points
    colours: Points
    gloss: Points


@dataclass
class Mesh:
    """Flat faces in painting order; x right, y up, z ahead, metres.

    Attributes:
        faces: (points (N, 3), colour, gloss), wound so that the outward normal follows from the first three points.
        lamps: (point, colour, radius in metres, kind "head" | "tail").
        half: half width and half length, for the shadow.
    """

    faces: list[tuple[Points, Colour, float]] = field(default_factory=list)
    lamps: list[tuple[tuple[float, float, float], Colour, float, str]] = field(default_factory=list)
    half: tuple[float, float] = (0.9, 2.2)

    @cached_property
    def packed(self) -> _Packed:
        """The faces as arrays; add none after asking."""
        sizes = np.array([len(points) for points, _, _ in self.faces])
        starts = np.cumsum(sizes) - sizes
        vertices = np.concatenate([points for points, _, _ in self.faces])
        first = vertices[starts]
        normals = np.cross(vertices[starts + 1] - first, vertices[starts + 2] - first)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        colours = np.array([colour for _, colour, _ in self.faces], np.float32)
        return _Packed(vertices, starts, sizes, normals, colours, np.array([g for *_, g in self.faces], np.float32))

    def face(
        self, points: Sequence[Sequence[float]], colour: Colour, outward: Sequence[float], gloss: float = 0.0
    ) -> None:
        """Add a face; `outward` is any vector on its outer side."""
        p = np.array(points, np.float32)
        if np.dot(np.cross(p[1] - p[0], p[2] - p[0]), outward) < 0:
            p = p[::-1].copy()
        self.faces.append((p, colour, gloss))

    def prism(self, profile: Sequence[tuple[float, float]], low: float, high: float, colours: Sequence[Colour]) -> None:
        """Extrude a side profile of (z, y) points across the width; half widths at its lowest and highest point."""
        ys = [y for _, y in profile]
        bottom, top = min(ys), max(ys)
        centre = np.array([0, (bottom + top) / 2, float(np.mean([z for z, _ in profile]))])

        def half(y: float) -> float:
            return low + (high - low) * (y - bottom) / max(top - bottom, 1e-6)

        for i, (z0, y0) in enumerate(profile):
            z1, y1 = profile[(i + 1) % len(profile)]
            quad = [(-half(y0), y0, z0), (half(y0), y0, z0), (half(y1), y1, z1), (-half(y1), y1, z1)]
            self.face(quad, colours[min(i, len(colours) - 1)], np.mean(quad, 0) - centre, 0.12)
        for side in (-1.0, 1.0):
            self.face([(side * half(y), y, z) for z, y in profile], colours[-1], (side, 0, 0), 0.05)

    def end(self, z: float, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        """A rectangle on the front (z > 0) or the rear, centred at x, y."""
        corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
        self.face([(a, b, z) for a, b in corners], colour, (0, 0, z))

    def flank(self, x: float, outline: Sequence[tuple[float, float]], colour: Colour) -> None:
        """A polygon of (z, y) points on both sides at distance x."""
        for side in (-1.0, 1.0):
            self.face([(side * x, y, z) for z, y in outline], colour, (side, 0, 0))

    def wheels(self, x: float, axles: Sequence[float], radius: float) -> None:
        """Tyre, rim and hub on both sides."""
        turn = np.linspace(0, 2 * np.pi, 14)[:-1]
        for z in axles:
            for r, colour, out in (
                (radius * 1.18, DARK, 0.0),
                (radius, (20.0, 20.0, 21.0), 0.02),
                (radius * 0.6, CHROME, 0.03),
                (radius * 0.25, (80.0, 80.0, 84.0), 0.04),
            ):
                self.flank(x + out, [(z + r * float(np.cos(a)), radius + r * float(np.sin(a))) for a in turn], colour)


def car(rng: np.random.Generator) -> Mesh:
    """Saloon, hatchback, estate or van."""
    kind = str(rng.choice(["saloon", "saloon", "hatch", "hatch", "suv", "suv", "van"]))
    length = {"saloon": 4.6, "hatch": 4.0, "suv": 4.6, "van": 5.0}[kind] * rng.uniform(0.95, 1.05)
    height = {"saloon": 1.43, "hatch": 1.48, "suv": 1.68, "van": 1.98}[kind] * rng.uniform(0.97, 1.04)
    wide = 0.9 * rng.uniform(0.96, 1.05)
    r, g, b = np.array(PAINT[rng.integers(len(PAINT))]) * rng.uniform(0.8, 1.08)
    paint = (float(r), float(g), float(b))
    m, e = Mesh(half=(wide, length / 2)), length / 2
    waist = 0.60 * height if kind != "van" else 0.52 * height
    nose = waist * 0.84
    bonnet = {"saloon": 0.26, "hatch": 0.29, "suv": 0.27, "van": 0.36}[kind] * length
    m.prism(
        [
            (-e + 0.1, 0.22),
            (-e, 0.45),
            (-e + 0.04, waist),
            (bonnet, waist),
            (e - 0.12, nose),
            (e, 0.5),
            (e - 0.1, 0.22),
        ],
        wide,
        wide * 0.96,
        [DARK, paint, paint, paint, paint, DARK, DARK, paint],
    )
    m.flank(wide * 0.985, [(-e + 0.15, 0.24), (e - 0.15, 0.24), (e - 0.15, 0.36), (-e + 0.15, 0.36)], DARK)
    m.flank(wide * 0.985, [(-0.1, 0.4), (-0.08, 0.4), (-0.08, waist), (-0.1, waist)], DARK)
    roof_back, roof_front = {
        "saloon": (-0.22, 0.03),
        "hatch": (-0.36, 0.04),
        "suv": (-0.40, 0.04),
        "van": (-0.47, 0.16),
    }[kind]
    base_back = {"saloon": -0.40, "hatch": -0.475, "suv": -0.485, "van": -0.495}[kind]
    cabin = [
        (base_back * length, waist),
        (roof_back * length, height),
        (roof_front * length, height),
        (bonnet + 0.12, waist),
    ]
    top = wide * 0.78 if kind != "van" else wide * 0.9
    m.prism(cabin, wide * 0.95, top, [paint])
    _glazing(m, cabin, wide * 0.95, top, blind=kind == "van")
    m.wheels(wide * 0.96, (-0.31 * length, 0.315 * length), 0.31 if kind != "suv" else 0.35)
    for side in (-1.0, 1.0):
        x = side * wide * 0.74
        m.end(e + 0.005, x, nose - 0.13, 0.36, 0.16, _LAMP)
        m.end(-e - 0.005, x, waist - 0.16, 0.3, 0.18, _RED)
        m.lamps.append(((x, nose - 0.13, e), (255, 244, 220), 0.16, "head"))
        m.lamps.append(((x, waist - 0.16, -e), (255, 30, 20), 0.11, "tail"))
        m.flank(
            wide * 1.0,
            [(bonnet - 0.25, waist), (bonnet, waist), (bonnet, waist + 0.13), (bonnet - 0.25, waist + 0.13)],
            paint,
        )
    m.end(e + 0.005, 0, nose - 0.14, wide * 0.9, 0.14, DARK)
    m.end(e + 0.006, 0, 0.42, 0.5, 0.11, (230, 230, 220))
    m.end(-e - 0.005, 0, 0.62, 0.5, 0.11, (230, 225, 190))
    m.end(-e - 0.004, 0, 0.33, wide * 1.8, 0.16, DARK)
    return m


def _glazing(m: Mesh, cabin: Sequence[tuple[float, float]], low: float, high: float, blind: bool) -> None:
    """Windscreen, rear window and side windows in the cabin (rear base, rear roof, front roof, front base)."""
    (z0, y0), (z1, y1), (z2, _), (z3, _) = cabin
    a, b = 0.1, 0.88
    ya, yb = y0 + a * (y1 - y0), y0 + b * (y1 - y0)
    for base, roof, out in ((z0, z1, -1.0), (z3, z2, 1.0)):
        za, zb = base + a * (roof - base), base + b * (roof - base)
        xa, xb = 0.9 * (low + a * (high - low)), 0.9 * (low + b * (high - low))
        m.face([(-xa, ya, za), (xa, ya, za), (xb, yb, zb), (-xb, yb, zb)], GLASS, (0, 0.3, out), 0.5)
    middle = (z1 + z2) / 2 - 0.1
    for side in (-1.0, 1.0):
        xa, xb = side * (low + a * (high - low)), side * (low + b * (high - low))
        rear, front = z0 + 0.2 + a * (z1 - z0), z3 - 0.2 + a * (z2 - z3)
        if not blind:
            m.face(
                [(xa, ya, rear), (xa, ya, middle - 0.05), (xb, yb, middle - 0.05), (xb, yb, z1 + 0.08)],
                GLASS,
                (side, 0, 0),
                0.3,
            )
        m.face(
            [(xa, ya, middle + 0.05), (xa, ya, front), (xb, yb, z2 - 0.05), (xb, yb, middle + 0.05)],
            GLASS,
            (side, 0, 0),
            0.3,
        )


def bus(rng: np.random.Generator) -> Mesh:
    """A city bus."""
    e, wide, height = rng.uniform(4.6, 6.0), 1.25, rng.uniform(2.9, 3.3)
    paint: Colour = tuple(
        float(c)
        for c in np.array(
            [(180, 30, 30), (40, 80, 150), (230, 228, 220), (50, 120, 80), (230, 180, 40), (230, 120, 30)][
                rng.integers(6)
            ]
        )
    )  # type: ignore[assignment]
    lower: Colour = paint if rng.random() < 0.6 else (228, 226, 220)
    m = Mesh(half=(wide, e))
    m.prism(
        [(-e, 0.35), (-e, height - 0.1), (-e + 0.2, height), (e - 0.2, height), (e, height - 0.2), (e, 0.35)],
        wide,
        wide * 0.97,
        [paint],
    )
    m.flank(wide * 0.999, [(-e, 0.35), (e, 0.35), (e, 1.1), (-e, 1.1)], lower)
    step = rng.uniform(1.2, 1.7)
    for z in np.arange(-e + 0.3, e - step - 0.2, step):
        m.flank(
            wide * 0.99, [(z, 1.35), (z + step - 0.1, 1.35), (z + step - 0.1, height - 0.6), (z, height - 0.6)], GLASS
        )
    m.flank(
        wide * 0.995, [(e - 1.5, 0.45), (e - 0.4, 0.45), (e - 0.4, height - 0.6), (e - 1.5, height - 0.6)], (40, 46, 54)
    )
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
    """A delivery truck: cab and box."""
    e, wide, height = rng.uniform(3.0, 4.5), 1.2, rng.uniform(2.6, 3.5)
    paint, box = PAINT[rng.integers(len(PAINT))], PAINT[rng.choice([0, 0, 4, 5, 6, 7, 9])]
    m = Mesh(half=(wide, e))
    split, cab = e - 1.9, 2.35
    m.prism([(-e, 0.5), (-e, 0.75), (e, 0.75), (e, 0.5)], wide * 0.8, wide * 0.8, [DARK])
    boxes = [
        lambda: m.prism([(-e, 0.75), (-e, height), (split, height), (split, 0.75)], wide, wide, [box]),
        lambda: m.prism(
            [(split + 0.1, 0.45), (split + 0.1, cab), (e - 0.35, cab), (e, 1.35), (e, 0.45)],
            wide * 0.95,
            wide * 0.9,
            [paint],
        ),
    ]
    for part in boxes:
        part()
    band = PAINT[rng.integers(len(PAINT))]
    m.flank(
        wide * 1.002,
        [
            (-e + 0.4, height * 0.55),
            (split - 0.4, height * 0.55),
            (split - 0.4, height * 0.72),
            (-e + 0.8, height * 0.72),
        ],
        band,
    )
    m.face(
        [(-1.02, 1.45, e - 0.02), (1.02, 1.45, e - 0.02), (0.95, cab - 0.15, e - 0.3), (-0.95, cab - 0.15, e - 0.3)],
        GLASS,
        (0, 0.3, 1),
        0.5,
    )
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
        m.lamps.append(((x, 0.75, e), (255, 244, 220), 0.18, "head"))
        m.lamps.append(((x, 0.85, -e), (255, 30, 20), 0.13, "tail"))


def traffic_light(state: int, height_m: float) -> Mesh:
    """The head of a traffic light whose lamps face its -z side; state 0 red, 1 amber, 2 green."""
    m = Mesh(half=(0.1, 0.1))
    bottom = height_m - 0.95
    m.prism([(-0.12, bottom), (-0.12, height_m), (0.12, height_m), (0.12, bottom)], 0.17, 0.17, [(30, 32, 30)])
    turn = np.linspace(0, 2 * np.pi, 11)[:-1]
    for i, colour in enumerate([(255.0, 50.0, 40.0), (255.0, 180.0, 40.0), (60.0, 245.0, 150.0)]):
        y = height_m - 0.19 - 0.285 * i
        shown = colour if i == state else tuple(c * 0.22 for c in colour)
        rim = [(0.115 * np.cos(a), y + 0.115 * np.sin(a), -0.13) for a in turn]
        m.face(rim, shown, (0, 0, -1), 9.0 if i == state else 0.0)  # type: ignore[arg-type]
        if i == state:
            m.lamps.append(((0, y, -0.13), colour, 0.10, "tail"))
    return m


def draw_mesh(canvas: Canvas, mesh: Mesh, place: Points, heading: float, lights_on: bool) -> None:
    """Paint a mesh at a world point (3,), turned right by `heading` radians."""
    packed = mesh.packed
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    camera = canvas.view.to_camera(packed.vertices @ turn.T + place)
    nearest, depth = float(camera[:, 2].min()), float(max(camera[:, 2].mean(), 0.5))
    if camera[:, 2].max() < NEAR_M:
        return
    normals = packed.normals @ turn.T
    towards = np.einsum("ij,ij->i", normals @ canvas.view.rotation.T, camera[packed.starts])
    seen = np.flatnonzero(towards < 0)
    shades = (
        canvas.ambient * (0.85 + 0.25 * normals[:, 1])
        + (1 - canvas.ambient) * np.clip(normals @ canvas.sun, 0, 1) * 1.1
    )
    sky = np.array(canvas.haze[0], np.float32) * (0.5 + 0.5 * canvas.exposure)
    gloss = np.minimum(packed.gloss, 0.5)[:, None]
    tones = canvas.tones(packed.colours * (1 - gloss) + sky * gloss, depth, shades[:, None].astype(np.float32))
    uv = canvas.view.to_pixels(np.maximum(camera, [-np.inf, -np.inf, NEAR_M]))
    polygons, colours = [], []
    for i in seen.tolist():
        part = slice(packed.starts[i], packed.starts[i] + packed.sizes[i])
        polygon = uv[part] if nearest > NEAR_M else canvas.view.to_pixels(clip_near(camera[part]))
        if len(polygon) >= 3:
            polygons.append(polygon)
            colours.append(mesh.faces[i][1] if packed.gloss[i] > 1 else tones[i])
    if polygons:
        canvas.fill(polygons, colours)
    if lights_on:
        _light_up(canvas, mesh, turn, place)


def _light_up(canvas: Canvas, mesh: Mesh, turn: Points, place: Points) -> None:
    ahead = turn @ np.array([0, 0, 1.0], np.float32)
    towards = canvas.view.position - place
    facing = float(ahead @ towards) / max(float(np.linalg.norm(towards)), 1e-6)
    for point, colour, radius, kind in mesh.lamps:
        strength = facing if kind == "head" else -facing
        camera = canvas.view.to_camera(turn @ np.array(point, np.float32) + place)
        if strength < 0.1 or camera[2] < 1.0:
            continue
        size = canvas.view.focal_px * radius / float(camera[2])
        glow: Colour = tuple(c * min(1.0, 0.3 + strength) for c in colour)  # type: ignore[assignment]
        canvas.lights.append(
            Light(canvas.view.to_pixels(camera), size * (1.5 if kind == "head" else 1.0), glow, canvas.owner)
        )


@dataclass
class Prop:
    """Street furniture that is no object of ours: limbs (poles, bins) and faces (plates)."""

    limbs: list[Limb]
    mesh: Mesh
    lamp_m: float = 0.0


def prop(rng: np.random.Generator, what: str) -> Prop:
    """A lamp post, or one of sign, bin, bollard, poster, post box, bench."""
    grey: Colour = (92, 94, 96)
    m = Mesh(half=(0.1, 0.1))
    if what == "lamp":
        pole: list[Limb] = [((0, 0, 0), (0, 5.6, 0), 0.09, 0.05, grey), ((0, 5.5, 0), (0.9, 5.75, 0), 0.04, 0.04, grey)]
        return Prop([*pole, ((0.75, 5.72, 0), (1.1, 5.72, 0), 0.09, 0.09, (225, 222, 205))], m, 5.7)
    colour: Colour = tuple(float(c) for c in rng.uniform(20, 220, 3))  # type: ignore[assignment]
    kind = str(rng.choice(["sign", "sign", "bin", "bollard", "poster", "post box", "bench"]))
    if kind == "sign":
        top = float(rng.uniform(2.1, 2.9))
        turn = np.linspace(0, 2 * np.pi, int(rng.choice([4, 5, 9, 13])))[:-1] + 0.785
        for r, c in ((0.34, colour), (0.25, (235.0, 235.0, 230.0)), (0.1, (30.0, 30.0, 34.0))):
            m.face([(r * float(np.cos(a)), top + r * float(np.sin(a)), -0.06) for a in turn], c, (0, 0, -1))
        return Prop([((0, 0, 0), (0, top + 0.3, 0), 0.035, 0.035, grey)], m)
    if kind == "poster":
        w, top = float(rng.uniform(0.35, 0.7)), float(rng.uniform(1.5, 2.3))
        m.prism([(-0.1, 0.2), (-0.1, top), (0.1, top), (0.1, 0.2)], w, w, [(60, 62, 64)])
        m.end(-0.11, 0, (top + 0.3) / 2, 1.8 * w, top - 0.5, colour)
        for _ in range(5):
            shade: Colour = tuple(float(c) for c in rng.uniform(10, 240, 3))  # type: ignore[assignment]
            m.end(
                -0.115,
                float(rng.uniform(-0.4, 0.4)) * w,
                float(rng.uniform(0.7, top - 0.4)),
                w * float(rng.uniform(0.3, 0.9)),
                float(rng.uniform(0.08, 0.4)),
                shade,
            )
        return Prop([], m)
    if kind == "bench":
        seat: list[Limb] = [
            ((-0.8, 0.45, 0), (0.8, 0.45, 0), 0.05, 0.05, (120, 84, 52)),
            ((-0.8, 0.8, 0.2), (0.8, 0.8, 0.2), 0.06, 0.06, (120, 84, 52)),
        ]
        return Prop([*seat, *(((x, 0, 0), (x, 0.45, 0), 0.03, 0.03, DARK) for x in (-0.6, 0.6))], m)
    height, radius = {"bin": (0.85, 0.24), "bollard": (0.8, 0.07), "post box": (1.35, 0.22)}[kind]
    return Prop(
        [
            ((0, radius * 0.6, 0), (0, height, 0), radius, radius, colour),
            ((0, height, 0), (0, height, 0.01), radius * 1.05, radius * 1.05, grey),
        ],
        m,
    )


def draw_prop(canvas: Canvas, item: Prop, place: Points, heading: float, lights_on: bool) -> None:
    """Paint street furniture; the lamp's arm reaches over the street."""
    if item.lamp_m:
        heading = np.pi if place[0] > canvas.view.position[0] else 0.0
    if item.limbs:
        draw_limbs(canvas, item.limbs, place, heading)
    if item.mesh.faces:
        draw_mesh(canvas, item.mesh, place, heading, lights_on=False)
    if item.lamp_m and lights_on:
        side = -1.0 if heading else 1.0
        camera = canvas.view.to_camera(place + np.array([side * 0.92, item.lamp_m - 0.05, 0], np.float32))
        if camera[2] > 1:
            size = canvas.view.focal_px * 0.2 / float(camera[2])
            canvas.lights.append(Light(canvas.view.to_pixels(camera), size, (255, 210, 150), SCENERY))
