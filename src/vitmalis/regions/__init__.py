"""Decision regions: their grid over a frame, the motion in each, and their types."""

from vitmalis.regions.classify import RegionType, classify, downsample_mask, task_relevance
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.regions.motion import Motion, MotionAnalyzer, MotionOptions

__all__ = [
    "ModelGeometry",
    "Motion",
    "MotionAnalyzer",
    "MotionOptions",
    "RegionGrid",
    "RegionType",
    "classify",
    "downsample_mask",
    "task_relevance",
]
