"""How long a model takes for a frame, stage by stage: `python -m validation.inference_speed --model vitdet_tiny`.

Weights are random: speed depends on the architecture. One JSON object goes to standard output and to `runs/profiling`.
`--compare` measures precisions and engines instead, each in pairs with plain fp32, so that what slows one slows both.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector import Detector, build_model, load_detector, preset
from vitmalis.detector.config import RANDOM
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.devices import AUTO
from vitmalis.detector.engines import EAGER, FUSED
from vitmalis.detector.int8 import prepare_products
from vitmalis.detector.precision import PRECISIONS, arithmetic
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.detectors import model_engine
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.model_arguments import add_model_choice, add_model_options, model_facts, model_options
from vitmalis_jobs.common.timing import Pairs, Stopwatch

PLAIN = {"precision": "fp32", "compile": False, "engine": EAGER}
"""Options of the model that others are compared with."""


def measure_stages(options: ModelOptions, width: int, height: int, repeats: int) -> dict[str, float]:
    """Median ms of each stage of a frame of random pixels, run eagerly, and of all of them on the configured engine.

    `head` is what follows the pyramid, boxes included; `detect` is from image to boxes.
    """
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    detector = _random_detector(options)
    device, median_ms = detector.device, partial(Stopwatch(detector.device).median_ms, repeats=repeats)
    model = build_model(preset(options.name).with_geometry(**options.geometry_options)).to(device)
    model.eval().requires_grad_(False)
    prepare_products(model.backbone.net, options.precision)
    with torch.inference_mode(), arithmetic(device, options.precision):
        padded = model.prepare(image_tensor(image, device))
        features = model.backbone.net(padded)
        levels = model.backbone.pyramid(features)
        stages = {
            "prepare": median_ms(lambda: model.prepare(image_tensor(image, device))),
            "stem": median_ms(lambda: model.backbone.vit.patch_embed(padded)),
            "vit": median_ms(lambda: model.backbone.net(padded)),
            "pyramid": median_ms(lambda: model.backbone.pyramid(features)),
            "head": median_ms(lambda: model.detect_in(levels, (height, width))),
        }
    return {**stages, "detect": median_ms(lambda: detector.detect(image))}


def compare_engines(options: ModelOptions, width: int, height: int, repeats: int) -> list[dict[str, Any]]:
    """Precisions and engines by name, from image to boxes: median ms, and median ratio to plain fp32 next to it."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    plain = _random_detector(msgspec.structs.replace(options, **PLAIN))
    stopwatch, rows = Stopwatch(plain.device), []
    for name, changes in compared(options, plain.device).items():
        print(f"{name} ...", file=sys.stderr)
        detector = _random_detector(msgspec.structs.replace(options, **(PLAIN | changes)))
        pairs = Pairs(stopwatch)
        for own in (plain, detector):  # warm, and compiled
            stopwatch.warm_up(partial(own.detect, image))
        for _ in range(repeats):
            pairs.add(partial(detector.detect, image), partial(plain.detect, image))
        ours_ms, fp32_ms = pairs.median_ms
        rows.append(
            {"engine": name, "ms": round(ours_ms, 1), "fp32_ms": round(fp32_ms, 1), "ratio": round(pairs.ratio, 3)}
        )
    return rows


def compared(options: ModelOptions, device: torch.device) -> dict[str, dict[str, Any]]:
    """What is compared with plain fp32, by name: options of the model; the fused engine where it can run the model."""
    rounded = ("bf16", "int8") if device.type == "cpu" else ("tf32", "bf16", "fp16", "int8")
    precisions = {name: {"precision": name} for name in rounded}
    compiled = {f"{name} compiled": {"precision": name, "compile": True} for name in ("fp32", "bf16")}
    fused = {f"{name} fused": {"precision": name, "engine": FUSED} for name in ("fp32", *rounded)}

    def runs(changes: dict[str, Any]) -> bool:
        free = PLAIN | changes | {"engine": AUTO}
        return model_engine(msgspec.structs.replace(options, **free)) == FUSED

    return precisions | compiled | {name: changes for name, changes in fused.items() if runs(changes)}


def _random_detector(options: ModelOptions) -> Detector:
    chosen = options.detector_options | {"weights": RANDOM}
    return load_detector(options.name, **chosen, compiled=options.compile)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.inference_speed",
        "Measure how long a model takes for a frame, stage by stage.",
        {
            "--model vitdet_tiny": "the embedded model",
            "--model vitdet_b --compare model.device=cuda": "every precision and engine on a GPU",
        },
    )
    add_model_choice(parser)
    parser.add_argument("--width", type=int, default=960, help="width of the frame in pixels")
    parser.add_argument("--height", type=int, default=540, help="height of the frame in pixels")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each stage, of which the median is reported")
    parser.add_argument("--precision", choices=list(PRECISIONS), help="as model.precision (default: fp32)")
    parser.add_argument("--compare", action="store_true", help="compare precisions and engines, each with plain fp32")
    parser.add_argument(
        "--output", type=Path, help="file of the result (default: inference_speed[_compare].json in runs/profiling)"
    )
    add_model_options(parser)
    return parser


def profile(options: argparse.Namespace) -> None:
    """Measure, print and store the result."""
    meter = LoadMeter()
    result = measure(options)
    name = "inference_speed_compare" if options.compare else "inference_speed"
    emit(result, options.output or Path("runs/profiling") / f"{name}.json", meter.load())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build the model and measure it.

    Raises:
        UserError: no such model, or a frame or count that is not positive.
    """
    for name in ("width", "height", "threads", "repeats"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}")
    model = model_options(options, precision=options.precision)
    config = preset(model.name)
    torch.set_num_threads(options.threads)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build_model(config).parameters())
    size = (options.width, options.height)
    facts = {
        "model": config.name,
        "parameters": parameters,
        "width": options.width,
        "height": options.height,
        "threads": options.threads,
        "torch": torch.__version__,
    }
    if options.compare:
        own = {key: value for key, value in model_facts(model).items() if key in ("device", "card")}
        return {**facts, **own, "rows": compare_engines(model, *size, options.repeats)}
    return {**facts, **model_facts(model), "median_ms": measure_stages(model, *size, options.repeats)}


main = option_job(command_line, profile)


if __name__ == "__main__":
    sys.exit(main())
