"""How long a model takes for a frame, stage by stage: `python -m profiling.inference_speed --model vitdet_tiny`.

Weights are random: speed depends on the architecture. One JSON object goes to standard output and to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from profiling.timing import median_ms
from vitmalis.detector import PRESETS, build_model, preset
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.detector import PRECISIONS, image_tensor
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path


def measure_stages(model: DetectionModel, width: int, height: int, repeats: int) -> dict[str, float]:
    """Median ms of each stage of a frame of random pixels, and of the whole way from picture to boxes.

    `head` is what follows the pyramid, boxes included.
    """
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    padded = model.prepare(image_tensor(picture))
    features = model.backbone.net(padded)
    levels = model.backbone.pyramid(features)
    whole = median_ms(lambda: model.predict(image_tensor(picture)), repeats)
    stages = {
        "prepare": median_ms(lambda: model.prepare(image_tensor(picture)), repeats),
        "stem": median_ms(lambda: model.backbone.net.patch_embed(padded), repeats),
        "vit": median_ms(lambda: model.backbone.net(padded), repeats),
        "pyramid": median_ms(lambda: model.backbone.pyramid(features), repeats),
        "head": median_ms(lambda: model.detect_in(levels, (height, width)), repeats),
    }
    return {**stages, "detect": whole}


def main(arguments: list[str] | None = None) -> None:
    """Measure as the command line says, print and store the result."""
    parser = argparse.ArgumentParser(prog="python -m profiling.inference_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vitdet_tiny", help=", ".join(PRESETS))
    parser.add_argument("--width", type=int, default=960, help="of the frame, pixels")
    parser.add_argument("--height", type=int, default=540, help="of the frame, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9, help="the median of so many is told")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/inference_speed.json"))
    options = parser.parse_args(arguments)
    result = measure(options)
    text = json.dumps(result, indent=2)
    with atomic_path(options.output) as temporary:
        temporary.write_text(text + "\n")
    print(text)


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
    dtype = PRECISIONS[options.precision]
    model = build_model(config).eval().requires_grad_(False)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        stages = measure_stages(model, options.width, options.height, options.repeats)
    return {
        "model": config.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "width": options.width,
        "height": options.height,
        "threads": options.threads,
        "precision": options.precision,
        "torch": torch.__version__,
        "median_ms": stages,
    }


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
