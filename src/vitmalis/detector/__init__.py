"""ViTDet detectors: a plain ViT, a simple feature pyramid and a detection head."""

from vitmalis.detector.base_detector import BaseDetector
from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_checkpoint, load_into, save_checkpoint
from vitmalis.detector.config import PRESETS, DetectorConfig, ModelConfig, preset
from vitmalis.detector.detector import Detector
from vitmalis.detector.devices import checked_device, chosen_device
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fcos_training import BatchTargets, HeadOutputs, fcos_loss
from vitmalis.detector.loading import load_any_detector, load_detector
from vitmalis.detector.sources import model_config

__all__ = [
    "PRESETS",
    "BaseDetector",
    "BatchTargets",
    "Detector",
    "DetectorConfig",
    "FcosDetector",
    "HeadOutputs",
    "ModelConfig",
    "build_model",
    "checked_device",
    "chosen_device",
    "fcos_loss",
    "load_any_detector",
    "load_checkpoint",
    "load_detector",
    "load_into",
    "model_config",
    "preset",
    "save_checkpoint",
]
