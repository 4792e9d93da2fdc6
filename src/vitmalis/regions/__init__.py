"""Decision regions: their grid over a frame, the motion in each, and their types."""

from vitmalis.regions.classify import RegionType, classify, downsample_mask, region_uncertainty, task_relevance
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.regions.motion import Motion, MotionAnalyzer, MotionOptions
from vitmalis.regions.treatment import AnyTreatments, Treatment, Treatments

__all__ = [
    "AnyTreatments",
    "ModelGeometry",
    "Motion",
    "MotionAnalyzer",
    "MotionOptions",
    "RegionGrid",
    "RegionType",
    "Treatment",
    "Treatments",
    "classify",
    "downsample_mask",
    "region_uncertainty",
    "task_relevance",
]
