"""From a configuration to a model."""

from __future__ import annotations

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import DetectorConfig, FcosConfig
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.detector.rcnn import RcnnDetector


def build_model(config: DetectorConfig) -> DetectionModel:
    """Make a freshly initialised model of the kind that the configuration's head asks for."""
    if isinstance(config.head, FcosConfig):
        return FcosDetector(config, ViTDetBackbone.of(config), config.head)
    return RcnnDetector(config, config.head)
