"""Seeded street scenes that stand in for footage we may not ship, and that know their true boxes."""

from vitmalis.video.standin.profiles import PROFILES as _PROFILES
from vitmalis.video.standin.scene import SceneFrame, StreetScene

PROFILES = tuple(_PROFILES)
"""Names of the scenes, those of the paper's table I."""

__all__ = ["PROFILES", "SceneFrame", "StreetScene"]
