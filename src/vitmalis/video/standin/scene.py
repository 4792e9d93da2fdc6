"""The seeded street: an endless world streamed past a moving camera, with the true boxes of who is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.types import Detections, RgbImage
from vitmalis.video.standin import people, textures, vehicles
from vitmalis.video.standin.atmosphere import Atmosphere
from vitmalis.video.standin.profiles import PROFILES, Lane
from vitmalis.video.standin.textures import Picture
from vitmalis.video.standin.view import SCENERY, Canvas, View

PERSON, BICYCLE, CAR, BUS, TRUCK, TRAFFIC_LIGHT = 0, 1, 2, 5, 7, 9
VIEW_M = 95.0
MIN_VISIBLE = 0.25
MIN_HEIGHT_PX = 8
_UP = np.array([0, 1.0, 0], np.float32)


@dataclass(frozen=True)
class Actor:
    """Something in the world; what is constant about it."""

    lane: Lane
    x_m: float
    z_m: float
    heading: float
    looks: object
    label: int
    height_m: float
    noise: NDArray[np.float32]
    delay_m: float
    phase: float


@dataclass(frozen=True)
class SceneFrame:
    """A rendered frame with all that is known of it.

    Attributes:
        image: RGB uint8 (H, W, 3).
        boxes: true boxes of visible objects.
        visible: float32 (N,), share of each object's pixels inside the picture that nothing hides.
    """

    image: RgbImage
    boxes: Detections
    visible: NDArray[np.float32]


class StreetScene:
    """A street of one profile; every frame is a pure function of the arguments and its index.

    Args:
        profile: one of `PROFILES`.
        seed: which street; different seeds share nothing.
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
        self._size = (width, height)
        self._fps = fps
        rng = np.random.default_rng([*self._seed, 0])
        p = self.profile
        self._phase = rng.uniform(0, 2 * np.pi, 8)
        self._speed = p.speed * rng.uniform(0.85, 1.15)
        self._camera_x = p.camera_x + rng.uniform(-0.2, 0.2)
        self._camera_y = p.camera_y + rng.uniform(-0.12, 0.15)
        self._focal_px = width * rng.uniform(0.62, 0.82)
        self._density = rng.uniform(0.8, 1.15)
        self.atmosphere = Atmosphere(p, rng, width, height, self._focal_px)
        kinds = ("palm", "palm", "tree", "shrub") if p.palms else ("tree", "tree", "tree", "shrub")
        self._trees = [textures.tree(rng, kind) for kind in kinds]
        self._walls = [self._wall_texture(rng, p.wall_kinds[i % len(p.wall_kinds)]) for i in range(9)]
        self._known: dict[tuple[int, int], Actor | None] = {}

    # ----- the world -----

    def _wall_texture(self, rng: np.random.Generator, kind: str) -> tuple[float, float, list[Picture]] | None:
        """(length m, height m, texture at falling resolutions, as bright as seen) of one building or hedge."""
        if kind == "open":
            return None
        p, exposure = self.profile, self.atmosphere.exposure
        length = float(rng.uniform(9, 13.5))
        if kind == "hedge":
            height = float(rng.uniform(1.1, 2.4))
            image = textures.hedge(rng, 14.0, height, (78.0, 100.0, 44.0), exposure)
            length = 14.0
        else:
            height = float(
                {"house": rng.uniform(5, 8), "shop": rng.uniform(7, 14), "office": rng.uniform(10, 18), "mall": 4.2}[
                    kind
                ]
            )
            lit = 0.45 if p.night else 0.06 if not p.indoor else 0.6
            length = 13.99 if kind == "mall" else length
            image = textures.facade(rng, length, height, p.palette, lit, exposure, shop=kind in ("shop", "mall"))
        levels = [image]
        for _ in range(3):
            levels.append(cv2.pyrDown(levels[-1]))
        return length, height, levels

    def _actor(self, lane_index: int, slot: int) -> Actor | None:
        key = (lane_index, slot)
        if key not in self._known:
            if len(self._known) > 4000:
                self._known.clear()
            self._known[key] = self._create(lane_index, slot)
        return self._known[key]

    def _create(self, lane_index: int, slot: int) -> Actor | None:
        lane = self.profile.lanes[lane_index]
        rng = np.random.default_rng([*self._seed, 1 + lane_index, slot + 2**31])
        if rng.random() > lane.share * (self._density if lane.share < 1 else 1.0):
            return None
        heading = 0.0 if lane.speed_m_s > 0 else np.pi
        if lane.speed_m_s == 0:
            heading = {
                "parked": 0.0 if lane.x_m > 0 else np.pi,
                "person": rng.uniform(0, 2 * np.pi),
                "prop": rng.normal(0, 0.3),
            }.get(lane.what, 0.0)
        if lane.what.startswith("cross"):
            heading = np.pi / 2 * rng.choice([-1, 1])
        looks, label, height = self._looks(lane.what, rng)
        patch = 1 + 0.09 * textures.crop_noise(rng, 64, 64)
        along = rng.uniform(-0.3, 0.3) * lane.pitch_m if lane.what not in ("lamp", "light", "parked") else 0.0
        return Actor(
            lane=lane,
            x_m=lane.x_m + rng.normal(0, 1) * lane.jitter_m,
            z_m=slot * lane.pitch_m + along,
            heading=float(heading + rng.normal(0, 0.03)),
            looks=looks,
            label=label,
            height_m=height,
            noise=patch.astype(np.float32),
            delay_m=float(rng.uniform(9, 45)),
            phase=float(rng.uniform(0, 6.3)),
        )

    def _looks(self, what: str, rng: np.random.Generator) -> tuple[object, int, float]:
        what = what.removeprefix("cross_")
        if what == "person":
            person = people.Person.of(rng, 0.45 if self.profile.rain else 0.0)
            return person, PERSON, person.height_m
        if what == "cyclist":
            return people.Person.of(rng), PERSON, 1.75
        if what in ("vehicle", "parked"):
            draw = rng.random() * (1.0 if what == "vehicle" else 0.9)
            if draw > 0.87:
                return (vehicles.bus(rng), BUS, 3.1) if draw > 0.93 else (vehicles.truck(rng), TRUCK, 3.0)
            return vehicles.car(rng), CAR, 1.5
        if what == "light":
            return float(rng.uniform(3.2, 4.6)), TRAFFIC_LIGHT, 4.0
        if what in ("tree", "shrub"):
            return (
                self._trees[3 if what == "shrub" else rng.integers(3)],
                -1,
                float(rng.uniform(4.5, 8.5) if what == "tree" else rng.uniform(0.8, 1.6)),
            )
        return vehicles.prop(rng, what), -1, 2.0

    def camera_z(self, time_s: float) -> float:
        """How far along the street the camera is, metres; it slows down and speeds up but never stops."""
        v, w = self._speed, 2 * np.pi / 17
        return float(v * time_s + 0.5 * v / w * (np.sin(w * time_s + self._phase[0]) - np.sin(self._phase[0])))

    def view(self, time_s: float) -> View:
        """The camera at a moment."""
        t, ph = time_s, self._phase
        step = 2 * np.pi * 1.9 * t

        def slow(period_s: float, i: int) -> float:
            return float(np.sin(2 * np.pi * t / period_s + ph[i]))

        x, y, z = self._camera_x, self._camera_y, self.camera_z(t)
        if self.profile.motion == "walk":
            x += 0.03 * np.sin(step / 2)
            y += 0.025 * np.sin(step)
            yaw = 0.10 * slow(13, 1) + 0.06 * slow(5.3, 2) + 0.008 * np.sin(step / 2)
            pitch = -0.05 + 0.03 * slow(7.1, 3) + 0.006 * np.sin(step + 1)
            roll = 0.012 * slow(4.3, 4) + 0.006 * np.sin(step / 2 + 1)
        elif self.profile.motion == "cycle":
            x += 0.25 * slow(6.1, 1) + 0.04 * slow(1.4, 5)
            yaw = 0.035 * slow(4.1, 2) + 0.05 * slow(15, 1)
            pitch = -0.06 + 0.012 * slow(3.7, 3) + 0.003 * slow(0.23, 6)
            roll = 0.03 * slow(1.4, 4) + 0.004 * slow(0.31, 7)
        else:
            x += 0.15 * slow(9, 1)
            yaw = 0.02 * slow(7, 2) + 0.02 * slow(19, 3)
            pitch = -0.02 + 0.004 * slow(0.9, 4) + 0.003 * slow(2.7, 5)
            roll = 0.004 * slow(1.1, 6)
        return View.looking(np.array([x, y, z], np.float32), yaw, pitch, roll, self._focal_px, self._size)

    # ----- one frame -----

    def render(self, frame_index: int) -> tuple[RgbImage, Detections]:
        """Picture and true boxes (labels 0, 1, 2, 5, 7, 9; scores 1) of a frame, in any order of asking."""
        frame = self.render_full(frame_index)
        return frame.image, frame.boxes

    def render_full(self, frame_index: int) -> SceneFrame:
        """Like `render`, with each box's visible share."""
        time_s = frame_index / self._fps
        view = self.view(time_s)
        canvas = self.atmosphere.canvas(view)
        self._paint_walls(canvas)
        cast = sorted(self._cast(time_s, view), key=lambda entry: -entry[0])
        self.atmosphere.paint_shadows(
            canvas, [(place, heading, actor) for _, actor, place, heading in cast if actor.label != TRAFFIC_LIGHT]
        )
        drawn: list[tuple[int, int, int, tuple[slice, slice]]] = []
        for _, actor, place, heading in cast:
            self._paint(canvas, actor, place, heading, time_s, drawn)
        boxes, visible = self._true_boxes(canvas, drawn)
        image = np.asarray(self.atmosphere.finish(canvas, frame_index), np.uint8)
        return SceneFrame(image, boxes, visible)

    def _cast(self, time_s: float, view: View) -> Iterator[tuple[float, Actor, NDArray[np.float32], float]]:
        """(depth, actor, place, heading) of everything in sight."""
        z_camera = self.camera_z(time_s)
        for index, lane in enumerate(self.profile.lanes):
            moved = z_camera if lane.keeps_ahead else 0.0 if lane.what.startswith("cross") else lane.speed_m_s * time_s
            first = int(np.floor((z_camera - 8 - moved) / lane.pitch_m))
            last = int(np.ceil((z_camera + VIEW_M - moved) / lane.pitch_m))
            for slot in range(max(first, 0) if lane.keeps_ahead else first, last + 1):
                actor = self._actor(index, slot)
                if actor is None:
                    continue
                x, z = actor.x_m, actor.z_m + moved
                if lane.keeps_ahead:
                    z += (
                        2.5
                        + (4.0 if lane.what == "vehicle" else 0.6) * (1 + np.sin(0.35 * time_s + actor.phase))
                        + (3.0 if lane.what == "vehicle" else 0)
                    )
                elif lane.what.startswith("cross"):
                    meets_s = (z - actor.delay_m - z_camera) / self._speed  # scene time left until it crosses the axis
                    x = -float(np.sin(actor.heading)) * lane.speed_m_s * meets_s + self._camera_x
                place = np.array([x, 0.0, z], np.float32)
                depth = float(view.to_camera(place)[2])
                if depth > 0.9 or (depth > -4 and abs(x - self._camera_x) > 1.9 and actor.label in (CAR, BUS, TRUCK)):
                    yield depth, actor, place, actor.heading

    def _paint_walls(self, canvas: Canvas) -> None:
        pitch = 14.0
        z_camera = float(canvas.view.position[2])
        first, last = int(np.floor((z_camera - 14) / pitch)), int((z_camera + 1.2 * VIEW_M) / pitch)
        sun_side = np.sign(canvas.sun[0])
        for slot in range(last, first - 1, -1):
            if slot % 5 == 0 and not self.profile.indoor:
                continue  # a side street
            for side, x in zip((-1.0, 1.0), self.profile.walls, strict=True):
                rng = np.random.default_rng([*self._seed, 99, slot + 2**31, int(side > 0)])
                wall = self._walls[rng.integers(len(self._walls))]
                if wall is None:
                    continue
                length, height, levels = wall
                x_wall = x + side * (rng.uniform(0, 1.2) if not self.profile.indoor else 0.0)
                z0 = slot * pitch
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

    def _paint(
        self, canvas: Canvas, actor: Actor, place: NDArray[np.float32], heading: float, time_s: float,
        drawn: list[tuple[int, int, int, tuple[slice, slice]]],
    ) -> None:  # fmt: skip
        """Paint one actor; note (owner, label, pixels, window) of each labelled object."""
        lane, looks = actor.lane, actor.looks
        night = self.profile.night
        speed = abs(lane.speed_m_s if not lane.keeps_ahead else self._speed)

        def note(label: int) -> None:
            rows, columns = canvas.window()
            pixels = int(np.count_nonzero(canvas.owners[rows, columns] == canvas.owner))
            if pixels:
                drawn.append((canvas.owner, label, pixels, (rows, columns)))
                canvas.grain(actor.noise)

        if actor.label < 0 or len(drawn) > 250:
            canvas.begin(SCENERY)
            if isinstance(looks, np.ndarray):
                canvas.sprite(looks, place, actor.height_m)
            elif isinstance(looks, vehicles.Prop):
                vehicles.draw_prop(canvas, looks, place, heading, night)
            return
        canvas.begin(len(drawn) + 1)
        if isinstance(looks, vehicles.Mesh):
            vehicles.draw_mesh(canvas, looks, place, heading, night or (self.profile.rain and lane.what != "parked"))
        elif isinstance(looks, people.Person):
            if lane.what == "cyclist":
                people.draw_limbs(canvas, people.bicycle(looks.shoes, time_s * speed / 0.34), place, heading)
                note(BICYCLE)
                canvas.begin(len(drawn) + 1)
                people.draw_limbs(canvas, looks.riding(time_s, speed), place, heading)
            else:
                people.draw_limbs(canvas, looks.walking(time_s, speed), place, heading)
        elif isinstance(looks, float):
            canvas.begin(SCENERY)
            people.draw_limbs(canvas, [((0, 0, 0.25), (0, looks, 0.25), 0.07, 0.05, (70, 72, 70))], place, 0.0)
            canvas.begin(len(drawn) + 1)
            state = (0, 0, 0, 2, 2, 2, 1)[int((time_s + actor.phase * 3) / 2.5) % 7]
            vehicles.draw_mesh(canvas, vehicles.traffic_light(state, looks), place, 0.0, lights_on=True)
        note(actor.label)

    def _true_boxes(
        self, canvas: Canvas, drawn: list[tuple[int, int, int, tuple[slice, slice]]]
    ) -> tuple[Detections, NDArray[np.float32]]:
        boxes, labels, shares = [], [], []
        for owner, label, pixels, (rows, columns) in drawn:
            mine = canvas.owners[rows, columns] == owner
            share = mine.sum() / pixels
            if share < MIN_VISIBLE:
                continue
            ys, xs = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
            if ys[-1] - ys[0] + 1 < MIN_HEIGHT_PX:
                continue
            boxes.append(
                [columns.start + xs[0], rows.start + ys[0], columns.start + xs[-1] + 1, rows.start + ys[-1] + 1]
            )
            labels.append(label)
            shares.append(share)
        return Detections.of(boxes, np.ones(len(boxes)), labels), np.array(shares, np.float32)
