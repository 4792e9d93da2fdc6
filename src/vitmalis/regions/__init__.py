"""Decision regions: their grid over a frame, how much each moves, and what each shows."""

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
