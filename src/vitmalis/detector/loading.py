"""Loading of a detector by name: its architecture, its weights, and the engine that it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitmalis.detector.base_detector import BaseDetector
from vitmalis.detector.config import Source, Task
from vitmalis.detector.custom_detector import custom_detector
from vitmalis.detector.detector import Detector, model_id, weights_digest, weights_files
from vitmalis.detector.devices import AUTO
from vitmalis.detector.engines import FUSED, chosen_engine
from vitmalis.detector.sources import model_config, model_with_weights
from vitmalis.errors import UserError


def load_any_detector(
    name: str,
    *,
    source: Source = "builtin",
    target: str = "",
    options: Mapping[str, Any] | None = None,
    **model_options: Any,
) -> BaseDetector:
    """Load a detector of any source; for "custom" it is the class `target`, which has no other options than its own.

    Args:
        name: how users choose it.
        source: "custom", or a source of `load_detector`.
        target, options: see `custom_detector`.
        model_options: of `load_detector`.

    Raises:
        UserError: as `load_detector`, or the class cannot be found or built, or an option is not one of a class.
    """
    if source != "custom":
        return load_detector(name, source=source, **model_options)
    for option in ("weights", "window", "compiled"):
        if value := model_options.get(option):
            raise UserError(f"model '{name}' is a class ({target}), which has no option {option}={value} but its own")
    asked = {option: model_options[option] for option in ("config", "task") if option in model_options}
    description = model_config(name, source=source, target=target, options=options, **asked)
    detector, _ = custom_detector(name, target, options or {})
    detector.model_id = model_id(description, weights_digest(()), model_options.get("precision", "fp32"))
    return detector


def load_detector(
    name: str,
    *,
    source: Source = "builtin",
    config: str | Path | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    window: int | None = None,
    downsampling_factor: int = 2,
    task: Task = "boxes",
    compiled: bool = False,
    engine: str = AUTO,
) -> Detector:
    """Load a detector with its weights.

    Args:
        name: one of `PRESETS`; of a timm model, its name there; of a detectron2 model, any.
        source: "builtin"; "timm" for our head on a transformer of timm; "detectron2" for its model as it is.
        config: LazyConfig file of a detectron2 model.
        weights: file or URL; "random" for random ones, the same in every process; None for those that come with the
            package or are published, downloaded once. Another library's model takes no URL, and None means "random".
        device: as PyTorch names it, or "auto", see `chosen_device`.
        precision: one of `PRECISIONS`, see `arithmetic`.
        window: w, side of attention windows in tokens; None for the model's own.
        downsampling_factor: d, how much smaller downsampled regions are, along each axis.
        task: "instances" for masks of the detected objects besides their boxes, which stay the same.
        compiled: see `compile_blocks`; the first image waits for it. Boxes and `model_id` stay the same.
        engine: one of `ENGINES`, see `chosen_engine`. The `model_id` stays the same.

    Raises:
        UserError: unknown model, source, device, precision or engine; the engine cannot run this model here; a library
            is missing; weights missing, unreadable or of another model; the model has no mask head for the task.
    """
    geometry: dict[str, Any] = {"window": window, "downsampling_factor": downsampling_factor}
    description = model_config(name, source=source, config=config, task=task, **geometry)
    files = weights_files(description, weights)
    digest = weights_digest(files)
    model, metadata = model_with_weights(description, config, files, **geometry)
    facts: dict[str, Any] = {"weights_sha256": digest, "metadata": metadata, "device": device, "precision": precision}
    if chosen_engine(engine, description, device=device, precision=precision, compiled=compiled) == FUSED:
        from vitmalis.detector.fused.engine import FusedDetector  # needs Triton

        return FusedDetector(model, **facts)
    return Detector(model, **facts, compiled=compiled)
