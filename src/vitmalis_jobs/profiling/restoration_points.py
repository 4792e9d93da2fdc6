"""Speed against accuracy of restoration points (paper, Fig. 5): `python -m profiling.restoration_points`.

On frames of each clip, regions in which the full-resolution model finds no object (score >= 0.5) are downsampled, and
inference time and F1 against the full model's boxes are measured for each restoration point; for comparison also with
all regions downsampled ("uniform"). One JSON object goes to standard output and, with a plot, to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitmalis.command_line import CommandLine
from vitmalis.matching import DEFAULT_RULE
from vitmalis.regions.classify import task_relevance
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis_jobs.common.arguments import listed
from vitmalis_jobs.common.checks import check_trained
from vitmalis_jobs.common.cli import job_parser
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.plotting import BLACK, canvas, colour, save_figure
from vitmalis_jobs.profiling.measured_result import measuring_job
from vitmalis_jobs.profiling.next_to_full import Comparison, Trial, add_subject_options, load_subject
from vitmalis_jobs.profiling.real_clips import ALL

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


def settings(points: Sequence[int], shares: Sequence[float]) -> list[Setting]:
    """List the settings: full model, every point and share of object-free regions, every point with all regions low."""
    mixed = [Setting("object-free", share, point) for share in shares for point in points]
    return [Setting("none", 1.0, 0), *mixed, *(Setting("uniform", 1.0, point) for point in points)]


def setting_mask(setting: Setting, grid: RegionGrid, reference: Detections, seed: int) -> BoolMask:
    """Choose the regions that a setting downsamples around the full model's boxes; larger shares include smaller."""
    free = task_relevance(grid, reference.above(DEFAULT_RULE.score_threshold)) == 0
    chosen = {"none": np.zeros(grid.shape, np.bool_), "object-free": free, "uniform": np.ones(grid.shape, np.bool_)}
    mask = np.zeros(grid.shape, np.bool_)
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(chosen[setting.regions]))
    mask.flat[candidates[: round(setting.share * len(candidates))]] = True
    return mask


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Run the detector on all clips.

    Raises:
        UserError: no such model, clip or restoration point, random weights, or a count that is not positive.
    """
    subject = load_subject(options, terminal)
    check_trained(subject.model, "F1 is compared")
    detector = subject.detector
    points = subject.chosen_points(options.points or range(detector.geometry.restoration_points + 1))

    def trial(setting: Setting, image: RgbImage, reference: Detections, seed: int) -> Trial:
        mask = setting_mask(setting, detector.config.region_grid(*image.shape[:2]), reference, seed)
        share = {"downsampled_share": float(mask.mean())}
        return Trial(lambda: detector.detect(image, mask, setting.restoration_point), share)

    comparison = Comparison(detector, settings(points, sorted(options.shares)), trial, options.seed)
    return {
        **subject.facts(options),
        "regions": "object-free: no box of the full model with that score overlaps; uniform: all; none: the full model",
        "rows": comparison.rows(subject.clips, options.frames, terminal, "restoration points"),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw time and F1 over restoration points: a line for each clip, a thick one for all, crosses for all regions."""
    factor = result["downsampling_factor"]
    figure, axes = canvas(f"{result['model']}: object-free regions downsampled by {factor} (paper, Fig. 5)", columns=2)
    share = max(row["share"] for row in result["rows"] if row["regions"] == "object-free")
    mixed = [row for row in result["rows"] if row["regions"] == "object-free" and row["share"] == share]
    uniform = [row for row in result["rows"] if row["regions"] == "uniform"]
    clips = [*dict.fromkeys(row["clip"] for row in uniform if row["clip"] != ALL), ALL]
    for position, clip in enumerate(clips):
        own_colour = BLACK if clip == ALL else colour(position)
        style: dict[str, Any] = {"color": own_colour, "lw": 2.4 if clip == ALL else 1.2, "ms": 4}
        for rows, marks in ((mixed, {"fmt": "o-", "label": clip}), (uniform, {"fmt": "x:"})):
            own_rows = [row for row in rows if row["clip"] == clip]
            points = [row["restoration_point"] for row in own_rows]
            for own, key in zip(axes, ("time_ratio", "f1"), strict=True):
                own.plot(points, [row[key] for row in own_rows], marks["fmt"], label=marks.get("label"), **style)
    axes[0].set(ylabel="inference time, relative to the full model", ylim=(0, None))
    axes[1].set(ylabel="F1 against the full model", ylim=(0, 1.02))
    axes[1].plot([], [], "x:", color="#666666", label="all regions")
    axes[1].legend(frameon=False, fontsize=8)
    for own in axes:
        own.set_xlabel("restoration point (subset)")
        own.set_xticks(sorted({row["restoration_point"] for row in mixed}))
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.restoration_points",
        "Measure time and F1 of every restoration point (paper, Fig. 5).",
        {
            "": "the embedded model, minutes",
            "--clips market1906 --frames 4 --points 0,2,4": "a quick look",
        },
    )
    add_subject_options(parser)
    parser.add_argument("--points", type=listed(int, 0, 99), help="restoration points (default: all)")
    parser.add_argument(
        "--shares", type=listed(float, 0, 1), default=[1.0], help="downsampled shares of object-free regions"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/profiling/restoration_points.json"), help="file of the result"
    )
    return parser


main = measuring_job(command_line, measure, title="{model} {model_id}", columns=COLUMNS, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
