"""From a configuration to a model."""

from __future__ import annotations

from vitmalis.detector.config import DetectorConfig, FcosConfig
from vitmalis.detector.fcos import FcosDetector


def build_model(config: DetectorConfig) -> FcosDetector:
    """Make a freshly initialised model."""
    if isinstance(config.head, FcosConfig):
        return FcosDetector(config, config.head)
    raise NotImplementedError
