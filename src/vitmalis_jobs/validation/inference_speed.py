"""How long a model takes for a frame, stage by stage: `python -m validation.inference_speed --model vitdet_tiny`.

Weights are random: speed depends on the architecture. One JSON object goes to standard output and to `runs/profiling`.
`--compare` measures precisions and engines instead, each in pairs with plain fp32, so that what slows one slows both.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitmalis.detector import PRESETS, Detector, build_model, preset
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.precision import PRECISIONS, arithmetic
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.timing import Pairs, Run, median_ms


def measure_stages(model: DetectionModel, width: int, height: int, repeats: int) -> dict[str, float]:
    """Median ms of each stage of a frame of random pixels, and of all of them, from image to boxes.

    `head` is what follows the pyramid, boxes included.
    """
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    padded = model.prepare(image_tensor(image))
    features = model.backbone.net(padded)
    levels = model.backbone.pyramid(features)
    whole = median_ms(lambda: model.predict(image_tensor(image)), repeats)
    stages = {
        "prepare": median_ms(lambda: model.prepare(image_tensor(image)), repeats),
        "stem": median_ms(lambda: model.backbone.vit.patch_embed(padded), repeats),
        "vit": median_ms(lambda: model.backbone.net(padded), repeats),
        "pyramid": median_ms(lambda: model.backbone.pyramid(features), repeats),
        "head": median_ms(lambda: model.detect_in(levels, (height, width)), repeats),
    }
    return {**stages, "detect": whole}


def compare_engines(model: DetectionModel, width: int, height: int, repeats: int) -> list[dict[str, Any]]:
    """Precisions and engines by name, from image to boxes: median ms, and median ratio to plain fp32 next to it."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)

    def detect(precision: str = "fp32", compiled: bool = False) -> Run:
        detector = Detector(copy.deepcopy(model), weights_sha256="", precision=precision, compiled=compiled)
        return lambda: detector.detect(image)

    plain = detect()
    engines = {
        "fp32 compiled": detect(compiled=True),
        "bf16": detect("bf16"),
        "bf16 compiled": detect("bf16", compiled=True),
    }
    rows = []
    for name, run in engines.items():
        print(f"{name} ...", file=sys.stderr)
        plain(), run()  # warm, and compiled
        pairs = Pairs()
        for _ in range(repeats):
            pairs.add(run, plain)
        ours_ms, fp32_ms = pairs.median_ms
        rows.append(
            {"engine": name, "ms": round(ours_ms, 1), "fp32_ms": round(fp32_ms, 1), "ratio": round(pairs.ratio, 3)}
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line and return the exit status of `run_job`."""
    parser = argparse.ArgumentParser(prog=program("validation.inference_speed"), description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vitdet_tiny", help=", ".join(PRESETS))
    parser.add_argument("--width", type=int, default=960, help="of the frame, pixels")
    parser.add_argument("--height", type=int, default=540, help="of the frame, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9, help="runs of which the median is reported")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    parser.add_argument("--compare", action="store_true", help="precisions and engines, each in pairs with plain fp32")
    parser.add_argument("--output", type=Path, default=None, help="runs/profiling/inference_speed[_compare].json")
    options = parser.parse_args(arguments)
    return run_job(lambda: profile(options))


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
    config = preset(options.model)
    torch.set_num_threads(options.threads)
    model = build_model(config).eval().requires_grad_(False)
    facts = {
        "model": config.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "width": options.width,
        "height": options.height,
        "threads": options.threads,
        "torch": torch.__version__,
    }
    if options.compare:
        return {**facts, "rows": compare_engines(model, options.width, options.height, options.repeats)}
    with torch.inference_mode(), arithmetic(torch.device("cpu"), options.precision):
        stages = measure_stages(model, options.width, options.height, options.repeats)
    return {**facts, "precision": options.precision, "median_ms": stages}


if __name__ == "__main__":
    sys.exit(main())
