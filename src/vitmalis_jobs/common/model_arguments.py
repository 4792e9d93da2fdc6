"""The model of a job whose command line is not Hydra's: options `model.KEY=VALUE`, and what results say about it."""

from __future__ import annotations

import argparse
from typing import Any

from omegaconf import OmegaConf

from vitmalis.detector import PRESETS, checked_device, preset
from vitmalis.errors import UserError
from vitmalis.types import DOWNSAMPLING_FACTORS
from vitmalis_jobs.common.config import ModelOptions, Section, checked, compose, plain
from vitmalis_jobs.common.detectors import model_engine
from vitmalis_jobs.common.machine import card_name


class _WithModel(Section, frozen=True):
    """A configuration of nothing but `model`, so that messages name its keys as elsewhere."""

    model: ModelOptions


def add_model_choice(parser: argparse.ArgumentParser, default: str = "vitdet_tiny", *, weights: bool = False) -> None:
    """Add `--model`, and `--weights` where the job measures what a trained model finds."""
    parser.add_argument("--model", default=default, help=f"one of {', '.join(PRESETS)}")
    if weights:
        parser.add_argument("--weights", help="file or URL of weights (default: those of the package)")


def add_geometry_options(parser: argparse.ArgumentParser) -> None:
    """Add `--window` and `--downsampling-factor`, w and d of the decision regions."""
    parser.add_argument("--window", type=int, help="side of attention windows in tokens (default: the model's own)")
    parser.add_argument(
        "--downsampling-factor",
        type=int,
        choices=DOWNSAMPLING_FACTORS,
        help="how much smaller low-resolution regions are, along each axis (default: 2)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional arguments `model.KEY=VALUE` to a command line that has `--model`."""
    parser.add_argument(
        "model_options",
        nargs="*",
        default=[],
        metavar="model.KEY=VALUE",
        help="options of conf/model, such as model.precision=bf16 or model.device=cpu",
    )


def model_options(options: argparse.Namespace, **flags: Any) -> ModelOptions:
    """The options of a built-in model as `evaluate.py` has them.

    Args:
        options: with `model`, the name of a preset, and `model_options`.
        flags: options of the model that the job has flags for; None for one that was not given.

    Raises:
        UserError: no such model or option, or a value that does not fit.
    """
    preset(options.model)
    if foreign := [option for option in options.model_options if not option.startswith("model.")]:
        raise UserError(f"'{foreign[0]}': give options of the model, such as model.device=cuda")
    given = [f"model.{key}={value}" for key, value in flags.items() if value is not None]
    composed = compose("profile_latency", [f"model={options.model}", *given, *options.model_options])
    return checked(OmegaConf.create({"model": plain(composed)["model"]}), _WithModel).model


def model_facts(model: ModelOptions) -> dict[str, str]:
    """What a measurement depends on besides the model and the frames, for its result and its tags.

    Raises:
        UserError: this machine does not have the device, or the engine cannot run the model there.
    """
    device = checked_device(model.device)
    engine = model_engine(model) + " compiled" * model.compile
    return {"device": str(device), "card": card_name(device), "precision": model.precision, "engine": engine}
