"""The fused engine on a GPU next to the eager one: `python -m profiling.fused --model vitdet_l --window 9`.

Three parts, from the inside out. The backbone: time over the share of downsampled regions at every restoration point,
next to the ratio of floating-point operations (FLOPs). The server's step: from the bytes of a JPEG to boxes, with a
mask that was never seen in each frame. Agreement: boxes of the fused engine in this precision, against those of the
eager one in fp32. Weights are the model's own for `vitdet_tiny` and random for others, whose speed depends on the
architecture only. One JSON object goes to standard output and to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector import checked_device, preset
from vitmalis.detector.config import RANDOM, DetectorConfig
from vitmalis.detector.detector import EMBEDDED_WEIGHTS, weights_files
from vitmalis.detector.engines import FUSED, chosen_engine
from vitmalis.detector.fused.backbone import Gelu
from vitmalis.detector.precision import PRECISIONS
from vitmalis.detector.sources import model_with_weights
from vitmalis.errors import UserError
from vitmalis.video.standin import StreetScene
from vitmalis_jobs.common.arguments import check_positive, listed
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine import card_name, git_commit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.model_arguments import add_model_choice
from vitmalis_jobs.common.timing import Stopwatch
from vitmalis_jobs.profiling.fused.parts import BAR_FACTOR, BAR_OFFSET, BackboneTimes, Bench, agreement, server_steps
from vitmalis_jobs.profiling.inference import nested_mask

SCENE = "walkB"


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Build the model and measure it.

    Raises:
        UserError: no such model or restoration point, a count that is not positive, or no device for the fused engine.
    """
    check_positive(options, "width", "height", "repeats", "frames")
    config = preset(options.model).with_geometry(options.window)
    if wrong := [point for point in options.points or () if point > config.vit.subsets]:
        raise UserError(f"--points: {config.name} has restoration points 1 to {config.vit.subsets}, not {wrong[0]}")
    chosen_engine(FUSED, config, device=options.device, precision=options.precision)
    terminal.note("building the model and rendering frames")
    with torch.inference_mode():
        bench = prepared(config, options)
        backbone = BackboneTimes(bench)
        points = options.points or list(range(config.vit.subsets, 0, -1))
        half, last = nested_mask(bench.grid, 0.5, seed=0), config.vit.subsets
        rows = backbone.rows(options.shares, points)
        terminal.note("backbone measured; now the eager one, the server's step and the boxes")
        eager = {
            "plain_ms": round(backbone.eager_ms(np.zeros_like(half), 0), 3),
            "half_low_ms": round(backbone.eager_ms(half, last), 3),
        }
        steps, boxes = server_steps(bench), agreement(bench)
    return {
        "model": config.name,
        "window": config.vit.window,
        "width": options.width,
        "height": options.height,
        "precision": options.precision,
        "gelu": options.gelu,
        "device": str(bench.device),
        "card": card_name(bench.device),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "backbone": rows,
        "backbone_bar": f"time_ratio <= {BAR_FACTOR} x flop_ratio + {BAR_OFFSET}",
        "backbone_bar_met": all(row["met"] for row in rows),
        "eager_backbone": eager,
        "server_step": steps,
        "agreement_with_eager_fp32": boxes,
    }


def prepared(config: DetectorConfig, options: argparse.Namespace) -> Bench:
    """The model on its device, with rendered frames."""
    device = checked_device(options.device, "--device")
    files = weights_files(config, None if config.name in EMBEDDED_WEIGHTS else RANDOM)
    model, _ = model_with_weights(config, None, files, config.vit.window, config.downsampling_factor)
    scene = StreetScene(SCENE, 0, options.width, options.height)
    return Bench(
        model=model.to(device).eval().requires_grad_(False),
        device=device,
        precision=options.precision,
        gelu=options.gelu,
        grid=config.region_grid(options.height, options.width),
        frames=[scene.render(7 * index)[0] for index in range(options.frames)],
        stopwatch=Stopwatch(device),
        repeats=options.repeats,
    )


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.fused",
        "Measure the fused engine on a GPU next to the eager one: backbone, the server's step, boxes.",
        {
            "--model vitdet_l --window 9": "the paper's model, two minutes",
            "--model vitdet_tiny --width 960 --height 540": "the embedded model",
        },
    )
    add_model_choice(parser, "vitdet_l")
    parser.add_argument("--window", type=int, help="side of attention windows in tokens (default: the model's own)")
    parser.add_argument("--width", type=int, default=1920, help="width of the frames in pixels")
    parser.add_argument("--height", type=int, default=1088, help="height of the frames in pixels")
    parser.add_argument("--device", default="auto", help="as PyTorch names it; auto: a GPU where there is one")
    parser.add_argument("--precision", default="bf16", choices=list(PRECISIONS), help="arithmetic of both engines")
    parser.add_argument(
        "--gelu", default="exact", choices=get_args(Gelu), help="of the fused backbone where it is measured alone"
    )
    parser.add_argument(
        "--shares", type=listed(float, 0, 1), default=[0.25, 0.5, 0.75, 1.0], help="downsampled shares of all regions"
    )
    parser.add_argument("--points", type=listed(int, 1, 99), help="restoration points (default: all)")
    parser.add_argument("--repeats", type=int, default=20, help="calls of which the median is reported")
    parser.add_argument("--frames", type=int, default=8, help="rendered frames that boxes are compared on")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/fused.json"), help="file of the result")
    return parser


def profile(options: argparse.Namespace) -> None:
    """Measure both engines, print and store the result."""
    terminal, meter = Terminal.on_stderr(), LoadMeter()
    result = measure(options, terminal)
    terminal.table("backbone", result["backbone"], ("restoration_point", "downsampled_share", "fused_ms", "time_ratio"))
    terminal.table("server's step", result["server_step"], tuple(result["server_step"][0]))
    emit(result, options.output, meter.load())


main = option_job(command_line, profile)


if __name__ == "__main__":
    sys.exit(main())
