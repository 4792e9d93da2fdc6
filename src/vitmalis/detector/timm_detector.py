"""Detectors on a vision transformer of timm, with our feature pyramid and FCOS head."""

from __future__ import annotations

from typing import Any

import torch

from vitmalis.detector.adapters.parts import Foreign
from vitmalis.detector.adapters.wrap import wrap
from vitmalis.detector.config import AdaptedConfig, FcosConfig, PyramidConfig
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.errors import UserError
from vitmalis.fingerprint import digest

PYRAMID = PyramidConfig(strides=(8, 16, 32), channels=64)


def timm_detector(name: str, window: int | None = None, downsampling_factor: int = 2) -> FcosDetector:
    """Make a detector on a timm model; its weights are random, and the same in every process.

    Args:
        name: of the model in timm, such as `vit_small_patch16_224`.
        window: side of a downsampled region in tokens; None for the model's own, or 9 where all blocks attend globally.
        downsampling_factor: d, how much smaller a downsampled region is, along each axis.

    Raises:
        UserError: timm is not installed or has no such model, or mixed resolution has no rule for the model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _create(name)
        net = wrap(model, window=window, downsampling_factor=downsampling_factor)
        mean, std = (_times_255(model.pretrained_cfg.get(key), name) for key in ("mean", "std"))
        config = AdaptedConfig(
            name=name,
            source="timm",
            architecture=digest(str(model)),
            geometry=net.geometry,
            pixel_mean=mean,
            pixel_std=std,
            pyramid=PYRAMID,
            head=FcosConfig(),
        )
        return FcosDetector(config, ViTDetBackbone(net, net.embed_dim, PYRAMID), FcosConfig())


def _create(name: str) -> Foreign:
    """Make the transformer of that name without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"model.source=timm needs timm, which cannot be imported here ({error}); install it with "
            "pip install 'vitmalis[timm]'"
        ) from error
    try:
        return timm.create_model(name, num_classes=0)
    except RuntimeError as error:
        raise UserError(
            f"model.name={name}: timm has no such model ({error}); timm.list_models('vit*') lists their names"
        ) from error


def _times_255(values: Any, name: str) -> tuple[float, float, float]:
    """Convert a mean or standard deviation of RGB from timm's scale 0..1 to 0..255."""
    if not isinstance(values, tuple) or len(values) != 3:
        raise UserError(f"model.name={name}: timm does not say how its images are normalised")
    red, green, blue = (255 * float(value) for value in values)
    return red, green, blue
