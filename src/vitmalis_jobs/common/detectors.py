"""What the configured detector stands in for, and where its boxes are kept."""

from __future__ import annotations

from pathlib import Path

from vitmalis.detector.config import RANDOM
from vitmalis.detector.devices import checked_device
from vitmalis.paths import cache_dir
from vitmalis_jobs.common.config import ModelOptions

EMBEDDED_MODEL = "vitdet_tiny"


def has_random_weights(model: ModelOptions) -> bool:
    """Whether the configured model has random weights, so that its boxes mean nothing."""
    return model.weights == RANDOM or (model.weights is None and model.source != "builtin")


def model_stand_in(model: ModelOptions) -> str:
    """What the configured model stands in for, as shown and tagged with a run; empty for none."""
    if has_random_weights(model):
        return f"random weights of {model.name}: its boxes mean nothing"
    return "small embedded model for ViTDet-L" if model.name == EMBEDDED_MODEL else ""


def boxes_cache(model: ModelOptions) -> Path:
    """The folder of the caches of a model's boxes; each kind of GPU has its own, as last digits differ from a CPU's."""
    kind = checked_device(model.device).type
    return cache_dir() if kind == "cpu" else cache_dir() / kind
