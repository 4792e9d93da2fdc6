"""Rendered street scenes with ground-truth boxes, which stand in for videos that may not be distributed."""

from vitmalis.video.standin.profiles import PROFILES as _PROFILES
from vitmalis.video.standin.scene import SceneFrame, StreetScene

PROFILES = tuple(_PROFILES)
"""Names of the scene profiles, those of the videos in the paper's Table I."""

__all__ = ["PROFILES", "SceneFrame", "StreetScene"]
