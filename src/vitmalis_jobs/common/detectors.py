"""What the configured detector stands in for, and where its boxes are kept."""

from __future__ import annotations

from pathlib import Path

from vitmalis.detector.config import RANDOM
from vitmalis.detector.devices import AUTO, checked_device
from vitmalis.detector.engines import EAGER, chosen_engine
from vitmalis.detector.sources import model_config
from vitmalis.paths import cache_dir
from vitmalis_jobs.common.config import ModelOptions

EMBEDDED_MODEL = "vitdet_tiny"


def has_random_weights(model: ModelOptions) -> bool:
    """Whether the configured model has random weights, so that its boxes mean nothing."""
    return model.weights == RANDOM or (model.weights is None and model.source in ("timm", "detectron2"))


def model_stand_in(model: ModelOptions) -> str:
    """What the configured model stands in for, as shown and tagged with a run; empty for none."""
    if has_random_weights(model):
        return f"random weights of {model.name}: its boxes mean nothing"
    return "small embedded model for ViTDet-L" if model.name == EMBEDDED_MODEL else ""


def model_engine(model: ModelOptions) -> str:
    """The engine of the configured model, "eager" or "fused"; raises `UserError` if the one named cannot run it."""
    if model.source != "builtin" and model.engine == AUTO:
        return EAGER
    config = model_config(model.name, **model.architecture)
    return chosen_engine(model.engine, config, device=model.device, precision=model.precision, compiled=model.compile)


def boxes_cache(model: ModelOptions) -> Path:
    """The folder of the caches of a model's boxes; last digits differ between kinds of devices and between engines."""
    kind, engine = checked_device(model.device).type, model_engine(model)
    folder = cache_dir() if kind == "cpu" else cache_dir() / kind
    return folder if engine == EAGER else folder / engine
