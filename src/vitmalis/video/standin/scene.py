"""Rendering of a seeded street scene, with the ground-truth boxes of its objects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage
from vitmalis.video.standin import furniture, people, textures
from vitmalis.video.standin.atmosphere import Atmosphere
from vitmalis.video.standin.mesh import Mesh, draw_mesh
from vitmalis.video.standin.profiles import PROFILES
from vitmalis.video.standin.textures import Image
from vitmalis.video.standin.view import SCENERY, Canvas
from vitmalis.video.standin.world import BICYCLE, NO_OBJECT, TRAFFIC_LIGHT, VIEW_M, WALL_PITCH_M, PlacedActor, World

MIN_VISIBLE = 0.25
MIN_HEIGHT_PX = 8
MIN_ASPECT = 0.12
"""Least width over height: narrower boxes are slivers at the border of the image or of another object."""
_UP = np.array([0, 1.0, 0], np.float32)
_LIGHT_STATES = (0, 0, 0, 2, 2, 2, 1)


@dataclass(frozen=True)
class _Drawn:
    """A labelled object on the canvas: its number, its pixels before others covered it, and the window around them."""

    owner: int
    label: int
    pixels: int
    window: tuple[slice, slice]


@dataclass(frozen=True)
class SceneFrame:
    """A rendered frame with its ground truth.

    Attributes:
        image: RGB uint8 (H, W, 3).
        boxes: true boxes of visible objects.
        visible: float32 (N,), share of each object's pixels in the image that no other object hides.
        owners: uint8 (H, W), number of the object that each pixel shows; other numbers for the street and scenery.
        numbers: uint8 (N,), the number of each object in `owners`.
    """

    image: RgbImage
    boxes: Detections
    visible: NDArray[np.float32]
    owners: NDArray[np.uint8]
    numbers: NDArray[np.uint8]


class StreetScene:
    """A street of one profile; every frame is a pure function of the arguments and its index.

    Args:
        profile: one of `PROFILES`.
        seed: seed of the street; streets of different seeds have nothing in common.
        width, height: pixels.
        fps: frames a second of scene time.

    Raises:
        UserError: unknown profile.
    """

    def __init__(self, profile: str, seed: int, width: int = 960, height: int = 540, fps: float = 30.0) -> None:
        if profile not in PROFILES:
            raise UserError(f"scene profile '{profile}' is unknown; known: {', '.join(PROFILES)}")
        self.profile = PROFILES[profile]
        self._seed = [list(PROFILES).index(profile), seed]
        self._fps = fps
        rng = np.random.default_rng([*self._seed, 0])
        p = self.profile
        self.world = World(p, self._seed, rng, (width, height))
        self.atmosphere = Atmosphere(p, rng, width, height, self.world.focal_px)
        kinds = ("palm", "palm", "tree", "shrub") if p.palms else ("tree", "tree", "tree", "shrub")
        self._trees = [textures.tree(rng, kind) for kind in kinds]
        self._walls = [self._wall_texture(rng, p.wall_kinds[i % len(p.wall_kinds)]) for i in range(9)]

    def render(self, frame_index: int) -> tuple[RgbImage, Detections]:
        """Render a frame; return its image and true boxes (labels 0, 1, 2, 5, 7, 9; scores 1)."""
        frame = self.render_full(frame_index)
        return frame.image, frame.boxes

    def render_full(self, frame_index: int) -> SceneFrame:
        """Render a frame with the visible share of each box."""
        time_s = frame_index / self._fps
        view = self.world.view(time_s)
        canvas = self.atmosphere.canvas(view)
        self._paint_walls(canvas)
        actors = sorted(self.world.actors_in_view(time_s, view), key=lambda placed: -placed.depth_m)
        actors = _nearest(actors, (SCENERY - 1) // 2)  # a byte numbers the objects, and a cyclist takes two numbers
        self.atmosphere.paint_shadows(canvas, [placed for placed in actors if placed.actor.label != TRAFFIC_LIGHT])
        drawn: list[_Drawn] = []
        for placed in actors:
            self._paint(canvas, placed, time_s, drawn)
        boxes, visible, numbers = _true_boxes(canvas, drawn)
        owners = np.asarray(canvas.owners, np.uint8)
        image = np.asarray(self.atmosphere.finish(canvas, frame_index), np.uint8)
        return SceneFrame(image, boxes, visible, owners, numbers)

    def _paint_walls(self, canvas: Canvas) -> None:
        z_camera = float(canvas.view.position[2])
        first, last = int(np.floor((z_camera - 14) / WALL_PITCH_M)), int((z_camera + 1.2 * VIEW_M) / WALL_PITCH_M)
        sun_side = np.sign(canvas.sun[0])
        for slot in range(last, first - 1, -1):
            if self.world.in_side_street(slot * WALL_PITCH_M):
                continue
            for side, x in zip((-1.0, 1.0), self.profile.walls, strict=True):
                rng = np.random.default_rng([*self._seed, 99, slot + 2**31, int(side > 0)])
                wall = self._walls[rng.integers(len(self._walls))]
                if wall is None:
                    continue
                length, height, levels = wall
                x_wall = x + side * (rng.uniform(0, 1.2) if not self.profile.indoor else 0.0)
                z0 = slot * WALL_PITCH_M
                shade = 1.0 if sun_side == -side else 0.55 + 0.45 * canvas.ambient
                near = np.array([x_wall, 0, z0], np.float32)
                along = np.array([0, 0, length], np.float32)
                away = np.array([side * 9.0, 0, 0], np.float32)
                if length < 13.98:
                    canvas.wall(levels, near, away, _UP * height, 0.7 * shade)
                if side < 0:
                    canvas.wall(levels, near, along, _UP * height, shade)
                else:
                    canvas.wall(levels, near + along, -along, _UP * height, shade)

    def _wall_texture(self, rng: np.random.Generator, kind: str) -> tuple[float, float, list[Image]] | None:
        """(length in m, height in m, exposed texture at falling resolutions) of a building or hedge; None for a gap."""
        if kind == "open":
            return None
        p, exposure = self.profile, self.atmosphere.exposure
        length = float(rng.uniform(9, 13.5))
        if kind == "hedge":
            height = float(rng.uniform(1.1, 2.4))
            image = textures.hedge(rng, 14.0, height, (78.0, 100.0, 44.0), exposure)
            length = 14.0
        else:
            heights = {
                "house": rng.uniform(5, 8),
                "shop": rng.uniform(7, 14),
                "office": rng.uniform(10, 18),
                "mall": 4.2,
            }
            height = float(heights[kind])
            lit = 0.45 if p.night else 0.06 if not p.indoor else 0.6
            length = 13.99 if kind == "mall" else length
            image = textures.facade(rng, length, height, p.palette, lit, exposure, shop=kind in ("shop", "mall"))
        levels = [image]
        for _ in range(3):
            levels.append(cv2.pyrDown(levels[-1]))
        return length, height, levels

    def _paint(self, canvas: Canvas, placed: PlacedActor, time_s: float, drawn: list[_Drawn]) -> None:
        """Paint an actor; append it to `drawn` if it is labelled."""
        actor, position = placed.actor, placed.position
        lane, appearance, heading = actor.lane, actor.appearance, actor.heading
        lights_on = self.profile.night or (self.profile.rain and lane.what != "parked")
        speed = abs(self.world.speed_m_s if lane.keeps_ahead else lane.speed_m_s)
        canvas.begin(SCENERY)
        if actor.label == NO_OBJECT:
            if isinstance(appearance, int):
                canvas.sprite(self._trees[appearance], position, actor.height_m)
            elif isinstance(appearance, furniture.Prop):
                furniture.draw_prop(canvas, appearance, position, heading, self.profile.night)
            return
        if isinstance(appearance, float):
            pole: people.Limb = ((0, 0, 0.25), (0, appearance, 0.25), 0.07, 0.05, (70, 72, 70))
            people.draw_limbs(canvas, [pole], position, 0.0)
            canvas.begin(len(drawn) + 1)
            state = _LIGHT_STATES[int((time_s + actor.phase * 3) / 2.5) % len(_LIGHT_STATES)]
            draw_mesh(canvas, furniture.traffic_light(state, appearance), position, 0.0, lights_on=True)
        elif isinstance(appearance, Mesh):
            canvas.begin(len(drawn) + 1)
            draw_mesh(canvas, appearance, position, heading, lights_on)
        elif isinstance(appearance, people.Person):
            cycling = lane.what == "cyclist"
            if cycling:
                canvas.begin(len(drawn) + 1)
                people.draw_limbs(canvas, people.bicycle(appearance.shoes, time_s * speed / 0.34), position, heading)
                _record(canvas, BICYCLE, actor.noise, drawn)
            canvas.begin(len(drawn) + 1)
            limbs = appearance.riding(time_s, speed) if cycling else appearance.walking(time_s, speed)
            people.draw_limbs(canvas, limbs, position, heading)
        _record(canvas, actor.label, actor.noise, drawn)


def _nearest(actors: list[PlacedActor], objects: int) -> list[PlacedActor]:
    """All scenery and the nearest `objects` labelled actors, from actors sorted from far to near."""
    labelled = [placed for placed in actors if placed.actor.label != NO_OBJECT]
    far = {id(placed) for placed in labelled[: max(0, len(labelled) - objects)]}
    return [placed for placed in actors if id(placed) not in far]


def _record(canvas: Canvas, label: int, noise: NDArray[np.float32], drawn: list[_Drawn]) -> None:
    """Record the object that was just painted with its number of pixels, and give it its texture."""
    rows, columns = canvas.window()
    pixels = int(np.count_nonzero(canvas.owners[rows, columns] == canvas.owner))
    if pixels:
        drawn.append(_Drawn(canvas.owner, label, pixels, (rows, columns)))
        canvas.grain(noise)


def _true_boxes(canvas: Canvas, drawn: list[_Drawn]) -> tuple[Detections, NDArray[np.float32], NDArray[np.uint8]]:
    """Boxes around the visible pixels of each object, the visible shares, and the objects' numbers."""
    boxes, labels, shares, numbers = [], [], [], []
    for item in drawn:
        rows, columns = item.window
        mine = canvas.owners[rows, columns] == item.owner
        share = np.count_nonzero(mine) / item.pixels
        if share < MIN_VISIBLE:
            continue
        ys, xs = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        width, height = xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1
        if height < MIN_HEIGHT_PX or width < MIN_ASPECT * height:
            continue
        top, left = rows.start, columns.start
        boxes.append((left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1))
        labels.append(item.label)
        shares.append(share)
        numbers.append(item.owner)
    truth = Detections.of(boxes, np.ones(len(boxes)), labels)
    return truth, np.array(shares, np.float32), np.array(numbers, np.uint8)
