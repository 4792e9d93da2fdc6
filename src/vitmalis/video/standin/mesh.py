"""Meshes of flat coloured faces, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitmalis.video.standin.textures import Colour
from vitmalis.video.standin.view import NEAR_M, Canvas, Light, Points, clip_near

DARK: Colour = (26, 26, 28)
_TYRE: Colour = (20, 20, 21)
_RIM: Colour = (170, 172, 176)
_HUB: Colour = (80, 80, 84)
Outline = Sequence[tuple[float, float]]
"""Points (z, y) of a side view, metres."""


def rectangle(z0: float, y0: float, z1: float, y1: float) -> Outline:
    """Outline of a rectangle given by two opposite corners."""
    return [(z0, y0), (z1, y0), (z1, y1), (z0, y1)]


def disc(centre: tuple[float, float], radius: float, corners: int) -> list[tuple[float, float]]:
    """Corners of a regular polygon around `centre`."""
    turn = np.linspace(0, 2 * np.pi, corners + 1)[:-1]
    return [(centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a))) for a in turn]


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
        """The faces as arrays; no face may be added afterwards."""
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

    def prism(self, profile: Outline, low: float, high: float, colours: Sequence[Colour]) -> None:
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
        """Add a rectangle on the front (z > 0) or the rear, centred at x, y."""
        corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
        self.face([(a, b, z) for a, b in corners], colour, (0, 0, z))

    def flank(self, x: float, outline: Outline, colour: Colour) -> None:
        """Add a polygon of (z, y) points on both sides at distance x."""
        for side in (-1.0, 1.0):
            self.face([(side * x, y, z) for z, y in outline], colour, (side, 0, 0))

    def wheels(self, x: float, axles: Sequence[float], radius: float) -> None:
        """Add arch, tyre, rim and hub of the wheels on both sides."""
        rings = ((1.18, DARK, 0.0), (1.0, _TYRE, 0.02), (0.6, _RIM, 0.03), (0.25, _HUB, 0.04))
        for z in axles:
            for share, colour, out in rings:
                self.flank(x + out, disc((z, radius), radius * share, 13), colour)


def draw_mesh(canvas: Canvas, mesh: Mesh, position: Points, heading: float, lights_on: bool) -> None:
    """Paint a mesh at a world position (3,), turned right by `heading` radians."""
    packed = mesh.packed
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    camera = canvas.view.to_camera(packed.vertices @ turn.T + position)
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
        _light_up(canvas, mesh, turn, position)


def _light_up(canvas: Canvas, mesh: Mesh, turn: Points, position: Points) -> None:
    ahead = turn @ np.array([0, 0, 1.0], np.float32)
    towards = canvas.view.position - position
    facing = float(ahead @ towards) / max(float(np.linalg.norm(towards)), 1e-6)
    for point, colour, radius, kind in mesh.lamps:
        strength = facing if kind == "head" else -facing
        camera = canvas.view.to_camera(turn @ np.array(point, np.float32) + position)
        if strength < 0.1 or camera[2] < 1.0:
            continue
        size = canvas.view.focal_px * radius / float(camera[2])
        glow: Colour = tuple(c * min(1.0, 0.3 + strength) for c in colour)  # type: ignore[assignment]
        canvas.lights.append(
            Light(canvas.view.to_pixels(camera), size * (1.5 if kind == "head" else 1.0), glow, canvas.owner)
        )
