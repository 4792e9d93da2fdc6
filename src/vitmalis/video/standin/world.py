"""The actors in the street and the camera's pose at any time, as pure functions of the seed and the time.

The street is divided into slots, and the content of a slot follows from its number, so that nothing has to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.video.standin import furniture, textures, vehicles
from vitmalis.video.standin.people import Person
from vitmalis.video.standin.profiles import Lane, Profile
from vitmalis.video.standin.view import Points, View

PERSON, BICYCLE, CAR, BUS, TRUCK, TRAFFIC_LIGHT, NO_OBJECT = 0, 1, 2, 5, 7, 9, -1
VIEW_M = 95.0
WALL_PITCH_M = 14.0
"""Distance between the starts of buildings; every fifth building is missing and leaves a side street."""
_WALLS_TO_SIDE_STREET = 5
_BEHIND_M = 8.0
SHRUB = 3
"""Index of the shrub among the tree textures."""
Appearance = Person | vehicles.Mesh | furniture.Prop | int | float
"""How an actor is drawn: an int is the index of a tree texture, a float the height of a traffic light."""


@dataclass(frozen=True)
class Actor:
    """A person, vehicle or piece of scenery in the street; `label` is NO_OBJECT for scenery."""

    lane: Lane
    x_m: float
    z_m: float
    heading: float
    appearance: Appearance
    label: int
    height_m: float
    noise: NDArray[np.float32]
    delay_m: float
    phase: float


@dataclass(frozen=True)
class PlacedActor:
    """An actor at one time: its distance ahead of the camera, and its position in the world (3,), metres."""

    depth_m: float
    actor: Actor
    position: Points


class World:
    """The street of one profile and seed; `rng` draws its constants, `size` is the image's (width, height), pixels."""

    def __init__(self, profile: Profile, seed: list[int], rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.profile = profile
        self._seed = seed
        self._size = size
        self._phase = rng.uniform(0, 2 * np.pi, 8)
        self.speed_m_s = profile.speed * rng.uniform(0.85, 1.15)
        self._camera_x = profile.camera_x + rng.uniform(-0.2, 0.2)
        self._camera_y = profile.camera_y + rng.uniform(-0.12, 0.15)
        self.focal_px = size[0] * rng.uniform(0.62, 0.82)
        self._density = rng.uniform(0.8, 1.15)
        self._known: dict[tuple[int, int], Actor | None] = {}

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
            at_rest = {
                "parked": 0.0 if lane.x_m > 0 else np.pi,
                "person": rng.uniform(0, 2 * np.pi),
                "prop": rng.normal(0, 0.3),
            }
            heading = at_rest.get(lane.what, 0.0)
        if lane.what.startswith("cross"):
            heading = np.pi / 2 * rng.choice([-1, 1])
        appearance, label, height = self._appearance(lane.what, rng)
        patch = 1 + 0.09 * textures.crop_noise(rng, 64, 64)
        along = rng.uniform(-0.3, 0.3) * lane.pitch_m if lane.what not in ("lamp", "light", "parked") else 0.0
        if lane.what == "cross_vehicle":
            along = rng.uniform(0.25, 0.75) * WALL_PITCH_M  # from one side street into the other
        return Actor(
            lane=lane,
            x_m=lane.x_m + rng.normal(0, 1) * lane.jitter_m,
            z_m=slot * lane.pitch_m + along,
            heading=float(heading + rng.normal(0, 0.03)),
            appearance=appearance,
            label=label,
            height_m=height,
            noise=patch.astype(np.float32),
            delay_m=float(rng.uniform(9, 45)),
            phase=float(rng.uniform(0, 6.3)),
        )

    def _appearance(self, what: str, rng: np.random.Generator) -> tuple[Appearance, int, float]:
        what = what.removeprefix("cross_")
        if what == "person":
            person = Person.of(rng, 0.45 if self.profile.rain else 0.0)
            return person, PERSON, person.height_m
        if what == "cyclist":
            return Person.of(rng), PERSON, 1.75
        if what in ("vehicle", "parked"):
            draw = rng.random() * (1.0 if what == "vehicle" else 0.9)
            if draw > 0.87:
                return (vehicles.bus(rng), BUS, 3.1) if draw > 0.93 else (vehicles.truck(rng), TRUCK, 3.0)
            return vehicles.car(rng), CAR, 1.5
        if what == "light":
            return float(rng.uniform(3.2, 4.6)), TRAFFIC_LIGHT, 4.0
        if what in ("tree", "shrub"):
            kind = SHRUB if what == "shrub" else int(rng.integers(SHRUB))
            return kind, NO_OBJECT, float(rng.uniform(4.5, 8.5) if what == "tree" else rng.uniform(0.8, 1.6))
        return furniture.prop(rng, what), NO_OBJECT, 2.0

    def in_side_street(self, z_m: float) -> bool:
        """Whether there are no buildings at this point of the street."""
        return not self.profile.indoor and int(z_m // WALL_PITCH_M) % _WALLS_TO_SIDE_STREET == 0

    def camera_z(self, time_s: float) -> float:
        """Position of the camera along the street, metres; its speed varies but never reaches 0."""
        v, w = self.speed_m_s, 2 * np.pi / 17
        return float(v * time_s + 0.5 * v / w * (np.sin(w * time_s + self._phase[0]) - np.sin(self._phase[0])))

    def view(self, time_s: float) -> View:
        """The camera at `time_s`, with the shake of its kind of motion."""
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
        return View.looking(np.array([x, y, z], np.float32), yaw, pitch, roll, self.focal_px, self._size)

    def actors_in_view(self, time_s: float, view: View) -> Iterator[PlacedActor]:
        """Yield everything that the camera may see, in no particular order."""
        z_camera = self.camera_z(time_s)
        for index, lane in enumerate(self.profile.lanes):
            crossing = lane.what.startswith("cross")
            moved = z_camera if lane.keeps_ahead else 0.0 if crossing else lane.speed_m_s * time_s
            first = int(np.floor((z_camera - _BEHIND_M - moved) / lane.pitch_m))
            last = int(np.ceil((z_camera + VIEW_M - moved) / lane.pitch_m))
            for slot in range(max(first, 0) if lane.keeps_ahead else first, last + 1):
                actor = self._actor(index, slot)
                if actor is None:
                    continue
                x, z = actor.x_m, actor.z_m + moved
                if lane.keeps_ahead:
                    least_m, sway_m = (5.5, 4.0) if lane.what == "vehicle" else (2.5, 0.6)
                    z += least_m + sway_m * (1 + np.sin(0.35 * time_s + actor.phase))
                elif crossing:
                    # It crosses the camera's path while the camera is still delay_m away, so they never collide.
                    left_s = (z - actor.delay_m - z_camera) / self.speed_m_s
                    x = -float(np.sin(actor.heading)) * lane.speed_m_s * left_s + self._camera_x
                if not self.profile.walls[0] < x < self.profile.walls[1] and not self.in_side_street(z):
                    continue  # behind the buildings
                position = np.array([x, 0.0, z], np.float32)
                depth = float(view.to_camera(position)[2])
                passing = abs(x - self._camera_x) > 1.9 and actor.label in (CAR, BUS, TRUCK)
                if depth > (-4.0 if passing else 0.9):
                    yield PlacedActor(depth, actor, position)
