"""Speed against accuracy of restoration points (paper, Fig. 5): `python -m profiling.restoration_points`.

On frames of each clip, regions in which the full-resolution model finds no object (score >= 0.5) are downsampled, and
inference time and F1 against the full model's boxes are measured for each restoration point; for comparison also with
all regions downsampled at the last point ("uniform"). One JSON object goes to standard output and, with a plot, to
`runs/profiling`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitmalis.detector import PRESETS, Detector, load_detector
from vitmalis.detector.config import RANDOM
from vitmalis.errors import UserError
from vitmalis.matching import DEFAULT_RULE, Counts, match
from vitmalis.regions.classify import task_relevance
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import DOWNSAMPLING_FACTORS, BoolMask, Detections, RgbImage
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.arguments import check_positive, listed
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.common.clips import read_frames, spread_frames
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.model_arguments import add_model_options, model_facts, model_options
from vitmalis_jobs.common.plotting import BLACK, canvas, colour, save_figure
from vitmalis_jobs.common.timing import Stopwatch
from vitmalis_jobs.profiling.measured_result import report_result
from vitmalis_jobs.profiling.real_clips import add_clip_options, find_clips

ALL = "all"
COLUMNS = ("clip", "regions", "share", "restoration_point", "inference_ms", "time_ratio", "f1", "downsampled_share")


@dataclass(frozen=True, slots=True)
class Setting:
    """Which regions are downsampled, and where full resolution is restored.

    Attributes:
        regions: "none", "object-free" or "uniform" (every region).
        share: share of those regions that is downsampled.
        restoration_point: 0 to N.
    """

    regions: str
    share: float
    restoration_point: int


@dataclass(slots=True)
class Outcome:
    """Counts and times of one setting over the frames of a clip, or of all clips."""

    counts: Counts = field(default_factory=Counts)
    ms: list[float] = field(default_factory=list)
    time_ratios: list[float] = field(default_factory=list)
    downsampled: list[float] = field(default_factory=list)

    def add(self, counts: Counts, ms: float, full_ms: float, mask: BoolMask) -> None:
        """Add one frame, with the time of the full model on it."""
        self.counts += counts
        self.ms.append(ms)
        self.time_ratios.append(ms / full_ms)
        self.downsampled.append(float(mask.mean()))

    def row(self, clip: str, setting: Setting) -> dict[str, Any]:
        """The row of a setting in the result."""
        return {
            "clip": clip,
            "regions": setting.regions,
            "share": setting.share,
            "restoration_point": setting.restoration_point,
            "inference_ms": round(statistics.median(self.ms), 2),
            "time_ratio": round(statistics.median(self.time_ratios), 4),
            "f1": None if self.counts.f1 is None else round(self.counts.f1, 4),
            "downsampled_share": round(statistics.mean(self.downsampled), 4),
            "frames": len(self.ms),
            "tp": self.counts.tp,
            "fp": self.counts.fp,
            "fn": self.counts.fn,
        }


def settings(points: Sequence[int], shares: Sequence[float]) -> list[Setting]:
    """List the settings: full model, every point and share of object-free regions, uniform downsampling at the last."""
    mixed = [Setting("object-free", share, point) for share in shares for point in points]
    return [Setting("none", 1.0, 0), *mixed, Setting("uniform", 1.0, max(points))]


def setting_mask(setting: Setting, grid: RegionGrid, reference: Detections, seed: int) -> BoolMask:
    """Choose the regions that a setting downsamples around the full model's boxes; larger shares include smaller."""
    free = task_relevance(grid, reference.above(DEFAULT_RULE.score_threshold)) == 0
    chosen = {"none": np.zeros(grid.shape, np.bool_), "object-free": free, "uniform": np.ones(grid.shape, np.bool_)}
    mask = np.zeros(grid.shape, np.bool_)
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(chosen[setting.regions]))
    mask.flat[candidates[: round(setting.share * len(candidates))]] = True
    return mask


def measure_frame(
    detector: Detector, image: RgbImage, tried: Sequence[Setting], seed: int, outcomes: dict[Setting, list[Outcome]]
) -> None:
    """Run all settings on one image, in a random order.

    Args:
        detector: the model.
        image: RGB uint8 (H, W, 3).
        tried: the settings.
        seed: of masks and order.
        outcomes: of each setting, to which this frame is added.
    """
    grid = detector.config.region_grid(*image.shape[:2])
    nothing = np.zeros(grid.shape, np.bool_)
    stopwatch = Stopwatch(detector.device)
    reference = stopwatch.warm_up(lambda: detector.detect(image))
    for position in np.random.default_rng(seed).permutation(len(tried)):
        setting = tried[int(position)]
        mask = setting_mask(setting, grid, reference, seed)
        stopwatch.rehearse(lambda: detector.detect(image, mask, setting.restoration_point))  # noqa: B023  # called here
        found, elapsed_s = stopwatch.timed(detector.detect, image, mask, setting.restoration_point)
        _, full_s = stopwatch.timed(detector.detect, image, nothing, 0)  # directly after it: what slows one slows both
        for outcome in outcomes[setting]:
            outcome.add(match(found, reference), 1e3 * elapsed_s, 1e3 * full_s, mask)


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Run the detector on all clips.

    Raises:
        UserError: no such model, clip or restoration point, or a count that is not positive.
    """
    check_positive(options, "frames", "threads")
    if options.weights == RANDOM:
        raise UserError(f"--weights {RANDOM}: F1 is compared, and boxes of random weights mean nothing; give a file")
    torch.set_num_threads(options.threads)
    flags = {"weights": options.weights, "window": options.window, "downsampling_factor": options.downsampling_factor}
    model = model_options(options, **flags)
    detector = load_detector(model.name, **model.detector_options, compiled=model.compile)
    last = detector.geometry.restoration_points
    if wrong := [point for point in options.points or () if point > last]:
        raise UserError(f"--points: {detector.name} has restoration points 0 to {last}, not {wrong[0]}")
    clips, left_out = find_clips(options, max_width=options.max_width, max_height=options.max_height)
    for name, reason in left_out.items():
        terminal.warn(f"{name} is left out: {reason}")
    tried = settings(sorted(options.points or range(last + 1)), sorted(options.shares))
    return {
        "model": detector.name,
        "model_id": detector.model_id,
        "window": detector.geometry.window,
        "downsampling_factor": detector.geometry.factor,
        "threads": options.threads,
        "torch": torch.__version__,
        **model_facts(model),
        "part": options.part,
        "rule": {"score_threshold": DEFAULT_RULE.score_threshold, "iou_threshold": DEFAULT_RULE.iou_threshold},
        "regions": "object-free: no box of the full model with that score overlaps; uniform: all; none: the full model",
        "stand_ins": {spec.name: spec.stand_in for spec in clips if spec.stand_in},
        "left_out": left_out,
        "rows": measure_clips(detector, clips, tried, options, terminal),
    }


def measure_clips(
    detector: Detector,
    clips: Sequence[VideoSpec],
    tried: Sequence[Setting],
    options: argparse.Namespace,
    terminal: Terminal,
) -> list[dict[str, Any]]:
    """Rows of every setting for each clip, then for all clips together."""
    overall = {setting: Outcome() for setting in tried}
    rows = []
    done, total = 0, len(clips) * options.frames
    for spec in clips:
        own = {setting: Outcome() for setting in tried}
        outcomes = {setting: [own[setting], overall[setting]] for setting in tried}
        for index, image in read_frames(spec, spread_frames(spec, options.frames)):
            terminal.step(done, total, "restoration points", f"{spec.name}, frame {index}")
            measure_frame(detector, image, tried, options.seed + index, outcomes)
            done += 1
        rows += [own[setting].row(spec.name, setting) for setting in tried]
    terminal.step(total, total, "restoration points")
    return rows + [overall[setting].row(ALL, setting) for setting in tried]


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw time and F1 over restoration points: a line for each clip, a thick one for all, crosses for uniform."""
    factor = result["downsampling_factor"]
    figure, axes = canvas(f"{result['model']}: object-free regions downsampled by {factor} (paper, Fig. 5)", columns=2)
    share = max(row["share"] for row in result["rows"] if row["regions"] == "object-free")
    mixed = [row for row in result["rows"] if row["regions"] == "object-free" and row["share"] == share]
    uniform = {row["clip"]: row for row in result["rows"] if row["regions"] == "uniform"}
    clips = [*(clip for clip in uniform if clip != ALL), ALL]
    for position, clip in enumerate(clips):
        own_colour = BLACK if clip == ALL else colour(position)
        style: dict[str, Any] = {"color": own_colour, "lw": 2.4 if clip == ALL else 1.2, "ms": 4}
        rows = [row for row in mixed if row["clip"] == clip]
        points = [row["restoration_point"] for row in rows]
        for own, key in zip(axes, ("time_ratio", "f1"), strict=True):
            own.plot(points, [row[key] for row in rows], "o-", label=clip, **style)
            own.plot(uniform[clip]["restoration_point"], uniform[clip][key], "x", color=own_colour, ms=7)
    axes[0].set(ylabel="inference time, relative to the full model", ylim=(0, None))
    axes[1].set(ylabel="F1 against the full model", ylim=(0, 1.02))
    axes[1].plot([], [], "x", color="#666666", label="all regions")
    axes[1].legend(frameon=False, fontsize=8)
    for own in axes:
        own.set_xlabel("restoration point (subset)")
        own.set_xticks(sorted({row["restoration_point"] for row in mixed}))
    save_figure(figure, path)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of this job."""
    parser = argparse.ArgumentParser(
        prog=program("profiling.restoration_points"), description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--model", default="vitdet_tiny", help=", ".join(PRESETS))
    parser.add_argument("--weights", help="file or URL (default: the model's own)")
    parser.add_argument("--window", type=int, help="side of attention windows in tokens (default: the model's own)")
    parser.add_argument(
        "--downsampling-factor", type=int, choices=DOWNSAMPLING_FACTORS, help="of low-resolution regions (default: 2)"
    )
    add_clip_options(parser, seconds=600.0)
    parser.add_argument("--part", choices=("eval", "profile"), default="eval", help="of each clip")
    parser.add_argument("--frames", type=int, default=12, help="of each clip, at even distances")
    parser.add_argument("--points", type=listed(int, 0, 99), help="restoration points (default: all)")
    parser.add_argument("--shares", type=listed(float, 0, 1), default=[1.0], help="of object-free regions (default: 1)")
    parser.add_argument("--max-width", type=int, default=960, help="of frames, pixels")
    parser.add_argument("--max-height", type=int, default=540, help="of frames, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of regions, and of order")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/restoration_points.json"))
    add_model_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line and return the exit status of `run_job`."""
    options = parse(arguments)
    return run_job(lambda: profile(options, Terminal.on_stderr()))


def profile(options: argparse.Namespace, terminal: Terminal) -> None:
    """Measure, draw, print and store."""
    meter = LoadMeter()
    result = measure(options, terminal)
    title = f"{result['model']} {result['model_id']}"
    report_result(result, options.output, terminal, meter.load(), title=title, columns=COLUMNS, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
