"""Where detectors come from: built in, a transformer of timm, a whole model of detectron2, or a class of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import torch

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_checkpoint, load_into
from vitmalis.detector.config import DetectorConfig, ModelConfig, Source, Task, checked_window, preset
from vitmalis.detector.custom_detector import custom_detector
from vitmalis.detector.detectron2_detector import detectron2_detector
from vitmalis.detector.timm_detector import timm_detector
from vitmalis.errors import UserError


def model_config(
    name: str,
    *,
    source: Source = "builtin",
    config: str | Path | None = None,
    window: int | None = None,
    downsampling_factor: int = 2,
    task: Task = "boxes",
    target: str = "",
    options: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """Describe a model without its weights. Another library's model, or a class, is made for that, once in a process.

    Args:
        name: one of `PRESETS`; of a timm model, its name there; of a detectron2 model, any.
        source: where the model comes from.
        config: LazyConfig file of a detectron2 model, None for others.
        window: w, side of attention windows in tokens; None for the model's own.
        downsampling_factor: d, how much smaller downsampled regions are, along each axis.
        task: what the model finds.
        target, options: of source "custom" the class and its options, see `custom_detector`; it has its own geometry.

    Raises:
        UserError: no such source, model, class or task, the library is missing, its model cannot be adapted or has no
            mask head for the task, or the window or the factor is out of range.
    """
    if source not in get_args(Source):
        raise UserError(f"model.source={source} is unknown; choose one of {', '.join(get_args(Source))}")
    if task not in get_args(Task):
        raise UserError(f"model.task={task} is unknown; choose one of {', '.join(get_args(Task))}")
    if (config is None) == (source == "detectron2"):
        raise UserError(
            f"model.source={source} and model.config={config} do not go together: a LazyConfig file describes the "
            "models of source=detectron2, and no others"
        )
    if source == "custom":
        if task != "boxes":
            raise UserError(
                f"model.task={task}: whether '{name}' finds masks is for its class ({target}) to say, by what it "
                "returns; leave model.task out"
            )
        return custom_detector(name, target, options or {})[1]
    if source == "builtin":
        return preset(name).with_geometry(window, downsampling_factor).with_task(task)
    return _adapted_config(name, source, config, window, downsampling_factor, task)


@lru_cache(maxsize=4)
def _adapted_config(
    name: str, source: Source, config: str | Path | None, window: int | None, downsampling_factor: int, task: Task
) -> ModelConfig:
    return _adapted(name, source, config, None, window, downsampling_factor, task == "instances").config


def model_with_weights(
    description: ModelConfig,
    config: str | Path | None,
    weights_files: Sequence[Path],
    window: int | None,
    downsampling_factor: int,
) -> tuple[DetectionModel, dict[str, object]]:
    """Make a model with its weights; also returns the metadata of their first file.

    Args:
        description: from `model_config`.
        config, window, downsampling_factor: as given there.
        weights_files: see `detector.weights_files`; none for random weights, the same in every process.

    Raises:
        UserError: a file is not readable as weights, or they are another model's.
    """
    if not isinstance(description, DetectorConfig):
        file = weights_files[0] if weights_files else None
        geometry = window, downsampling_factor
        return _adapted(description.name, description.source, config, file, *geometry, description.mask_head), {}
    if not weights_files:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build_model(description), {}
    state, metadata = load_checkpoint(weights_files[0])
    for path in weights_files[1:]:
        state |= load_checkpoint(path)[0]
    with torch.device("meta"):
        model = build_model(description)
    load_into(model, state, str(weights_files[0]))
    return model, metadata


def _adapted(
    name: str,
    source: Source,
    config: str | Path | None,
    weights_file: Path | None,
    window: int | None,
    downsampling_factor: int,
    masks: bool,
) -> DetectionModel:
    if window is not None:
        checked_window(window)
    if source == "detectron2":
        return detectron2_detector(Path(str(config)), weights_file, window, downsampling_factor, masks)
    if masks:
        raise UserError(
            f"model.task=instances: {name} of timm has no mask head; choose a built-in model or one of detectron2"
        )
    model = timm_detector(name, window, downsampling_factor)
    if weights_file is not None:
        state, _ = load_checkpoint(weights_file)
        load_into(model, state, str(weights_file))
    return model
