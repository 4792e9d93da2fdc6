"""Street furniture: traffic lights, and lamps, signs and bins, which are unlabelled distractors for a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitmalis.video.standin.mesh import DARK, Mesh, disc, draw_mesh
from vitmalis.video.standin.people import Limb, draw_limbs
from vitmalis.video.standin.textures import Colour
from vitmalis.video.standin.view import SCENERY, Canvas, Light, Points

_GREY: Colour = (92, 94, 96)
_WOOD: Colour = (120, 84, 52)


def traffic_light(state: int, height_m: float) -> Mesh:
    """Mesh of a traffic light's head whose lamps face -z; state 0 is red, 1 amber, 2 green."""
    m = Mesh(half=(0.1, 0.1))
    bottom = height_m - 0.95
    m.prism([(-0.12, bottom), (-0.12, height_m), (0.12, height_m), (0.12, bottom)], 0.17, 0.17, [(30, 32, 30)])
    for i, colour in enumerate([(255.0, 50.0, 40.0), (255.0, 180.0, 40.0), (60.0, 245.0, 150.0)]):
        y = height_m - 0.19 - 0.285 * i
        shown = colour if i == state else tuple(c * 0.22 for c in colour)
        rim = [(x, v, -0.13) for x, v in disc((0, y), 0.115, 10)]
        m.face(rim, shown, (0, 0, -1), 9.0 if i == state else 0.0)  # type: ignore[arg-type]
        if i == state:
            m.lamps.append(((0, y, -0.13), colour, 0.10, "tail"))
    return m


@dataclass
class Prop:
    """Street furniture without a label: limbs (poles, bins) and faces (plates)."""

    limbs: list[Limb]
    mesh: Mesh
    lamp_m: float = 0.0


def prop(rng: np.random.Generator, what: str) -> Prop:
    """Draw a lamp post, or a random sign, bin, bollard, poster, post box or bench."""
    if what == "lamp":
        pole: list[Limb] = [
            ((0, 0, 0), (0, 5.6, 0), 0.09, 0.05, _GREY),
            ((0, 5.5, 0), (0.9, 5.75, 0), 0.04, 0.04, _GREY),
            ((0.75, 5.72, 0), (1.1, 5.72, 0), 0.09, 0.09, (225, 222, 205)),
        ]
        return Prop(pole, Mesh(), 5.7)
    colour = _colour(rng, 20, 220)
    kind = str(rng.choice(["sign", "sign", "bin", "bollard", "poster", "post box", "bench"]))
    if kind == "sign":
        return _sign(rng, colour)
    if kind == "poster":
        return Prop([], _poster(rng, colour))
    if kind == "bench":
        planks: list[Limb] = [
            ((-0.8, y, z), (0.8, y, z), r, r, _WOOD) for y, z, r in ((0.45, 0, 0.05), (0.8, 0.2, 0.06))
        ]
        return Prop([*planks, *(((x, 0, 0), (x, 0.45, 0), 0.03, 0.03, DARK) for x in (-0.6, 0.6))], Mesh())
    height, r = {"bin": (0.85, 0.24), "bollard": (0.8, 0.07), "post box": (1.35, 0.22)}[kind]
    lid: Limb = ((0, height, 0), (0, height, 0.01), r * 1.05, r * 1.05, _GREY)
    return Prop([((0, r * 0.6, 0), (0, height, 0), r, r, colour), lid], Mesh())


def _colour(rng: np.random.Generator, low: float, high: float) -> Colour:
    r, g, b = rng.uniform(low, high, 3).tolist()
    return r, g, b


def _sign(rng: np.random.Generator, colour: Colour) -> Prop:
    m, top, corners = Mesh(), float(rng.uniform(2.1, 2.9)), int(rng.choice([4, 5, 9, 13]))
    turn = np.linspace(0, 2 * np.pi, corners)[:-1] + 0.785
    for r, shade in ((0.34, colour), (0.25, (235.0, 235.0, 230.0)), (0.1, (30.0, 30.0, 34.0))):
        m.face([(r * float(np.cos(a)), top + r * float(np.sin(a)), -0.06) for a in turn], shade, (0, 0, -1))
    return Prop([((0, 0, 0), (0, top + 0.3, 0), 0.035, 0.035, _GREY)], m)


def _poster(rng: np.random.Generator, colour: Colour) -> Mesh:
    m, w, top = Mesh(), float(rng.uniform(0.35, 0.7)), float(rng.uniform(1.5, 2.3))
    m.prism([(-0.1, 0.2), (-0.1, top), (0.1, top), (0.1, 0.2)], w, w, [(60, 62, 64)])
    m.end(-0.11, 0, (top + 0.3) / 2, 1.8 * w, top - 0.5, colour)
    for _ in range(5):
        shade = _colour(rng, 10, 240)
        x, y = float(rng.uniform(-0.4, 0.4)) * w, float(rng.uniform(0.7, top - 0.4))
        m.end(-0.115, x, y, w * float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.08, 0.4)), shade)
    return m


def draw_prop(canvas: Canvas, item: Prop, position: Points, heading: float, lights_on: bool) -> None:
    """Paint street furniture at a world position (3,); a lamp's arm reaches over the street."""
    if item.lamp_m:
        heading = np.pi if position[0] > canvas.view.position[0] else 0.0
    if item.limbs:
        draw_limbs(canvas, item.limbs, position, heading)
    if item.mesh.faces:
        draw_mesh(canvas, item.mesh, position, heading, lights_on=False)
    if item.lamp_m and lights_on:
        side = -1.0 if heading else 1.0
        camera = canvas.view.to_camera(position + np.array([side * 0.92, item.lamp_m - 0.05, 0], np.float32))
        if camera[2] > 1:
            size = canvas.view.focal_px * 0.2 / float(camera[2])
            canvas.lights.append(Light(canvas.view.to_pixels(camera), size, (255, 210, 150), SCENERY))
