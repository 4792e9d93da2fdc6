"""Inference time over downsampled regions and restoration points: `python -m profiling.inference --model vitdet_tiny`.

Weights are random, as time depends on the architecture only. For each restoration point and share of downsampled
regions, the time of the backbone is measured relative to its time at full resolution, from paired runs, next to the
ratio of floating-point operations (FLOPs) that it should follow. It runs on a GPU where there is one; options of the
model choose another device, precision or engine. One JSON object goes to standard output and, with a plot, to
`runs/profiling`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector import build_model, load_detector, preset
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import RANDOM, DetectorConfig
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.flops import VitCost, vit_cost
from vitmalis.detector.int8 import prepare_products
from vitmalis.detector.precision import arithmetic
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, RgbImage
from vitmalis_jobs.common.arguments import check_positive, listed
from vitmalis_jobs.common.cli import job_parser
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine import git_commit
from vitmalis_jobs.common.model_arguments import (
    add_geometry_options,
    add_model_choice,
    add_model_options,
    model_facts,
    model_options,
)
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.common.timing import Pairs, Run, Stopwatch, default_repeats
from vitmalis_jobs.profiling.measured_result import measuring_job

BAR_FACTOR, BAR_OFFSET = 1.10, 0.03
"""At the last restoration point time_ratio is at most BAR_FACTOR x flop_ratio + BAR_OFFSET."""

SLOW_MS = 2000.0
"""Models whose backbone takes longer are measured fewer times, so that the job ends in minutes."""

COLUMNS = (
    "restoration_point",
    "downsampled_share",
    "downsampled_regions",
    "tokens",
    "attention_gflops",
    "gflops",
    "flop_ratio",
    "time_ratio",
    "vit_ms",
    "detector_time_ratio",
)


def nested_mask(grid: RegionGrid, share: float, seed: int) -> BoolMask:
    """Draw a share of all regions at random; with the same seed, a larger share includes a smaller one."""
    order = np.random.default_rng(seed).permutation(grid.region_patches.size)
    mask = np.zeros(grid.region_patches.size, np.bool_)
    mask[order[: round(share * mask.size)]] = True
    return mask.reshape(grid.shape)


class Measurement:
    """A model with random weights, and an image of random pixels to measure it with.

    The whole detector runs on the engine that is configured, the backbone alone always on the eager one.

    Args:
        options: of the model.
        width_px, height_px: size of the image.
        seed: of pixels and masks.
    """

    def __init__(self, options: ModelOptions, width_px: int, height_px: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.config: DetectorConfig = preset(options.name).with_geometry(**options.geometry_options)
        self.precision, self.seed = options.precision, seed
        self.grid = self.config.region_grid(height_px, width_px)
        chosen = options.detector_options | {"weights": RANDOM}
        self.detector = load_detector(options.name, **chosen, compiled=options.compile)
        self.device = self.detector.device
        self.model: DetectionModel = build_model(self.config).to(self.device).eval().requires_grad_(False)
        prepare_products(self.model.backbone.net, self.precision)
        self.image: RgbImage = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), np.uint8)
        self.padded = self.model.prepare(image_tensor(self.image, self.device))
        self.whole_cost = vit_cost(self.config.vit, self.grid)
        self.stopwatch = Stopwatch(self.device)

    def plain(self) -> object:
        """Run the backbone at full resolution."""
        return self.model.backbone.net(self.padded)

    def mixed(self, mask: BoolMask, point: int) -> Run:
        """A run of the backbone with some regions at low resolution, from patches as a server has them."""
        layout = self.model.layout(self.image.shape[:2], mask)
        if layout is None:
            return self.plain
        patches = layout.cut(self.padded)
        return lambda: self.model.backbone.net.forward_patches(patches, layout, point)

    def row(self, share: float, point: int, repeats: int, whole_repeats: int) -> dict[str, Any]:
        """Measure a mask of one share of regions at one restoration point."""
        mask = nested_mask(self.grid, share, self.seed)
        cost = vit_cost(self.config.vit, self.grid, mask, point)
        run, pairs, whole = self.mixed(mask, point), Pairs(self.stopwatch), Pairs(self.stopwatch)
        with arithmetic(self.device, self.precision):
            self.stopwatch.warm_up(run)
            for _ in range(repeats):
                pairs.add(run, self.plain)
            stream_ms = self.stopwatch.stream_ms(run)
        for _ in range(whole_repeats):
            whole.add(lambda: self.detector.detect(self.image, mask, point), lambda: self.detector.detect(self.image))
        return {**self._counted(cost, mask, point), **_timed(pairs, whole), "vit_stream_ms": stream_ms}

    def plain_ms(self) -> float:
        """Duration of the backbone at full resolution, ms, as far as two calls tell."""
        with arithmetic(self.device, self.precision):
            self.stopwatch.warm_up(self.plain)
            return self.stopwatch.duration_ms(self.plain)

    def _counted(self, cost: VitCost, mask: BoolMask, point: int) -> dict[str, Any]:
        return {
            "restoration_point": point,
            "downsampled_share": round(float(mask.mean()), 4),
            "downsampled_regions": int(mask.sum()),
            "tokens": self.grid.tokens(mask),
            "attention_gflops": round(cost.attention_flops / 1e9, 3),
            "gflops": round(cost.flops / 1e9, 3),
            "attention_flop_ratio": round(cost.attention_flops / self.whole_cost.attention_flops, 4),
            "flop_ratio": round(cost.flops / self.whole_cost.flops, 4),
        }


def _timed(pairs: Pairs, whole: Pairs) -> dict[str, Any]:
    mixed_ms, plain_ms = pairs.median_ms
    detector_ms, detector_plain_ms = whole.median_ms if whole.ours_ms else (None, None)
    return {
        "time_ratio": round(pairs.ratio, 4),
        "vit_ms": round(mixed_ms, 2),
        "vit_plain_ms": round(plain_ms, 2),
        "detector_time_ratio": round(whole.ratio, 4) if whole.ours_ms else None,
        "detector_ms": None if detector_ms is None else round(detector_ms, 2),
        "detector_plain_ms": None if detector_plain_ms is None else round(detector_plain_ms, 2),
        "pairs": len(pairs.ours_ms),
    }


def plain_times(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Medians over the rows of what a plain frame took, ms."""
    found: dict[str, float | None] = {}
    for name, key in (("backbone_ms", "vit_plain_ms"), ("detector_ms", "detector_plain_ms")):
        values = [row[key] for row in rows if row[key] is not None]
        found[name] = round(statistics.median(values), 2) if values else None
    return found


def check_bars(rows: Sequence[dict[str, Any]], last_point: int) -> list[dict[str, Any]]:
    """Compare the rows of the last restoration point with their bars."""
    bars = []
    for row in rows:
        if row["restoration_point"] == last_point:
            bar = round(BAR_FACTOR * row["flop_ratio"] + BAR_OFFSET, 4)
            shown = {key: row[key] for key in ("downsampled_share", "time_ratio")}
            bars.append({**shown, "bar": bar, "met": row["time_ratio"] <= bar})
    return bars


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Build the model and measure it.

    Raises:
        UserError: no such model or restoration point, or a size or count that is not positive.
    """
    check_positive(options, "width", "height", "threads")
    model = model_options(options, window=options.window, downsampling_factor=options.downsampling_factor)
    config = preset(model.name).with_geometry(**model.geometry_options)
    last = config.vit.subsets
    if wrong := [point for point in options.points or () if point > last]:
        raise UserError(f"--points: {config.name} has restoration points 0 to {last}, not {wrong[0]}")
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        measurement = Measurement(model, options.width, options.height, options.seed)
        rows = measure_rows(measurement, options, terminal)
    bars = check_bars(rows, last)
    return {
        "model": config.name,
        "window": config.vit.window,
        "downsampling_factor": config.downsampling_factor,
        "width": options.width,
        "height": options.height,
        "regions": list(measurement.grid.shape),
        "tokens_plain": measurement.whole_cost.tokens[0],
        "gflops_plain": round(measurement.whole_cost.flops / 1e9, 3),
        "threads": options.threads,
        "torch": torch.__version__,
        **model_facts(model),
        "git_commit": git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "timed": "the ViT run eagerly, from patches to features, which the FLOPs count; 'detector' is all from images "
        "to boxes, on the engine; a GPU is waited for before and after, but for 'stream', which its own events time",
        "plain": plain_times(rows),
        "bar": f"time_ratio <= {BAR_FACTOR} x flop_ratio + {BAR_OFFSET} at restoration point {last}",
        "bars": bars,
        "bars_met": all(bar["met"] for bar in bars) if bars else None,
        "rows": rows,
    }


def measure_rows(measurement: Measurement, options: argparse.Namespace, terminal: Terminal) -> list[dict[str, Any]]:
    """Measure every share of regions at every restoration point; a slow model at the last one only, and fewer times."""
    plain_ms = measurement.plain_ms()
    slow = plain_ms > SLOW_MS
    last = measurement.config.vit.subsets
    points = options.points or ([last] if slow else [*range(1, last + 1), 0])
    if slow and options.points is None:
        name = measurement.config.name
        terminal.note(f"{name} is slow at this size: only restoration point {last} (--points chooses others)")
    repeats = options.repeats or default_repeats(plain_ms)
    whole_repeats = (1 if slow else repeats) if options.whole_repeats is None else options.whole_repeats
    cases = [(share, point) for point in points for share in sorted(options.shares)]
    rows: list[dict[str, Any]] = []
    for done, (share, point) in enumerate(cases):
        terminal.step(done, len(cases), "measuring", f"{share:.0%} of regions, restoration point {point}")
        rows.append(measurement.row(share, point, repeats, whole_repeats))
        if slow:
            terminal.note(json.dumps(rows[-1]))  # minutes of work, not to be lost with those that follow
    terminal.step(len(cases), len(cases), "measuring")
    return rows


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw time and FLOPs over the share of downsampled regions, a line for each restoration point."""
    size = f"{result['width']}x{result['height']}"
    regions = f"window {result['window']}, factor {result['downsampling_factor']}"
    where = f"{result['threads']} thread(s)" if result["device"] == "cpu" else result["card"]
    figure, (axes,) = canvas(f"{result['model']}, {size}, {regions}, {result['precision']}, {where}")
    for point in sorted({row["restoration_point"] for row in result["rows"]}):
        rows = [row for row in result["rows"] if row["restoration_point"] == point]
        shares = [0.0, *(row["downsampled_share"] for row in rows)]
        own = colour(point)
        axes.plot(shares, [1.0, *(row["time_ratio"] for row in rows)], "o-", color=own, ms=4, label=f"{point}")
        axes.plot(shares, [1.0, *(row["flop_ratio"] for row in rows)], "--", color=own, lw=1)
    axes.plot([], [], "--", color="#666666", lw=1, label="FLOPs")
    axes.set(xlabel="share of regions downsampled", ylabel="time of the backbone, relative to none", ylim=(0, None))
    axes.legend(title="restoration point", frameon=False, fontsize=8)
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.inference",
        "Measure whether inference time follows FLOPs as regions are downsampled, at every restoration point.",
        {
            "--model vitdet_tiny": "the embedded model, minutes",
            "--model vitdet_b --points 6 --repeats 3 model.device=cuda": "one restoration point, on a GPU",
        },
    )
    add_model_choice(parser)
    add_geometry_options(parser)
    parser.add_argument("--width", type=int, default=960, help="width of the image in pixels")
    parser.add_argument("--height", type=int, default=540, help="height of the image in pixels")
    parser.add_argument(
        "--shares", type=listed(float, 0, 1), default=[0.25, 0.5, 0.75, 1.0], help="downsampled shares of all regions"
    )
    parser.add_argument("--points", type=listed(int, 0, 99), help="restoration points (default: all; slow: the last)")
    parser.add_argument("--repeats", type=int, default=0, help="pairs for each row (default: 9; slow 3, fast 30)")
    parser.add_argument("--whole-repeats", type=int, help="pairs of whole detectors (default: as repeats; slow 1)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    parser.add_argument("--seed", type=int, default=0, help="seed of pixels and masks")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/inference.json"), help="file of the result")
    add_model_options(parser)
    return parser


main = measuring_job(command_line, measure, title="{model} {width}x{height}", columns=COLUMNS, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
