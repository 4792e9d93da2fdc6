"""The five scene profiles: cross-section of the street, its lanes, camera motion and light."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

from vitmalis.video.standin.textures import Colour

Strip = tuple[float, float, Colour, float]


@dataclass(frozen=True)
class Lane:
    """A line along the street with an actor every `pitch_m` metres, each with probability `share`.

    Attributes:
        what: person, cyclist, vehicle, parked, tree, shrub, lamp, prop, light, cross_person or cross_vehicle.
        x_m: distance from the street's axis, right is positive; `jitter_m` spreads it.
        speed_m_s: speed of the lane's actors along the street.
        keeps_ahead: whether the lane moves with the camera instead.
    """

    what: str
    x_m: float
    speed_m_s: float
    pitch_m: float
    share: float
    jitter_m: float
    keeps_ahead: bool


@dataclass(frozen=True)
class Profile:
    """One kind of street scene. Lengths in metres, speeds in metres a second, angles in radians.

    Attributes:
        lanes: the actors and scenery in the street, from `lanes.csv`.
        motion: camera motion: walk, cycle or drive.
        walls: (x of the left facades, x of the right ones); `wall_kinds` are their types.
        haze: colour and distance of the haze; `sky` has the colours at the horizon and at the zenith.
        exposure, ambient: range of the brightness of surfaces; share of ambient light.
    """

    lanes: tuple[Lane, ...]
    motion: str
    speed: float
    camera_x: float
    camera_y: float
    walls: tuple[float, float]
    wall_kinds: tuple[str, ...]
    palette: tuple[Colour, ...]
    strips: tuple[Strip, ...]
    lines: tuple[tuple[float, float, float], ...]
    haze: tuple[Colour, float]
    sky: tuple[Colour, Colour]
    exposure: tuple[float, float]
    ambient: float
    rain: bool = False
    night: bool = False
    indoor: bool = False
    palms: bool = False
    slabs: bool = True


def _lanes(profile: str) -> tuple[Lane, ...]:
    """The rows of `lanes.csv` for one profile."""
    table = resources.files(__package__).joinpath("lanes.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(table.splitlines()) if row["profile"] == profile]
    return tuple(
        Lane(
            row["what"], float(row["x_m"]), float(row["speed_m_s"]), float(row["pitch_m"]), float(row["share"]),
            float(row["jitter_m"]), row["keeps_ahead"] == "1",
        )
        for row in rows
    )  # fmt: skip


_ASPHALT: Colour = (104, 104, 106)
_SLABS: Colour = (158, 152, 144)
_GRASS: Colour = (92, 116, 54)
_STONE: tuple[Colour, ...] = ((176, 150, 118), (150, 128, 104), (196, 186, 168), (160, 96, 72), (210, 204, 192))
_CITY: tuple[Colour, ...] = (
    (170, 96, 76), (196, 176, 146), (206, 200, 190), (150, 150, 152), (120, 92, 80), (188, 150, 104), (222, 196, 160),
)  # fmt: skip
_SHOPS: tuple[Colour, ...] = ((214, 208, 198), (190, 186, 180), (150, 140, 128), (228, 224, 216))

PROFILES: dict[str, Profile] = {
    "walkS": Profile(
        _lanes("walkS"), "walk", 1.35, 1.3, 1.6, (-8.0, 7.5), ("house", "hedge", "hedge", "open", "house"), _STONE,
        ((-18, 18, _GRASS, 0.22), (-3.2, 3.2, (132, 128, 120), 0.09)), (),
        ((196, 212, 230), 160.0), ((206, 222, 238), (92, 146, 214)), (0.95, 1.2), 0.5, slabs=False,
    ),
    "walkR": Profile(
        _lanes("walkR"), "walk", 1.3, 0.4, 1.6, (-15.5, 3.4), ("shop", "shop", "office", "shop"), _CITY,
        ((-18, 18, _SLABS, 0.09), (-12.2, -2.0, _ASPHALT, 0.12)), ((-7.1, 0.14, 3.0),),
        ((168, 174, 180), 75.0), ((182, 186, 190), (146, 152, 160)), (0.68, 0.9), 0.9, rain=True,
    ),
    "walkB": Profile(
        _lanes("walkB"), "walk", 1.1, 0.0, 1.6, (-5.4, 5.4), ("mall",), _SHOPS,
        ((-18, 18, (186, 178, 166), 0.05), (-1.0, 1.0, (172, 158, 138), 0.05)), (),
        ((206, 196, 178), 90.0), ((206, 196, 178), (206, 196, 178)), (0.8, 1.15), 0.82, indoor=True,
    ),
    "cycleS": Profile(
        _lanes("cycleS"), "cycle", 5.5, 3.3, 1.55, (-13.0, 12.0), ("shop", "office", "house", "open", "shop"), _CITY,
        ((-18, 18, (172, 166, 156), 0.10), (-8.2, 7.4, (118, 117, 116), 0.10)),
        ((-0.3, 0.14, 0), (0.0, 0.14, 0),
         (4.4, 0.12, 0), (-4.3, 0.12, 3.0)),
        ((206, 208, 206), 190.0), ((222, 220, 212), (104, 156, 216)), (0.95, 1.2), 0.5, palms=True,
    ),
    "driveN": Profile(
        _lanes("driveN"), "drive", 9.0, 1.9, 1.35, (-14.0, 13.5), ("shop", "office", "shop", "office"), _CITY,
        ((-18, 18, (140, 136, 130), 0.10), (-9.6, 9.4, (92, 92, 94), 0.12)),
        ((-0.15, 0.12, 0), (0.15, 0.12, 0),
         (3.7, 0.13, 3.0), (-3.7, 0.13, 3.0)),
        ((22, 22, 30), 110.0), ((46, 40, 44), (8, 9, 18)), (0.28, 0.5), 0.75, night=True, slabs=False,
    ),
}  # fmt: skip
