"""Token merging next to mixed resolution at equal numbers of tokens: `python -m profiling.token_merging`.

On frames of each clip, tokens are reduced to a share in two ways: by merging similar tokens of a window in window
blocks (`vitmalis.detector.token_merging`), and by downsampling regions, those without objects of the full model first.
Inference time, relative to the full model in paired runs, and F1 against its boxes are measured, next to the ratio of
floating-point operations of the backbone. Random weights give times only. One JSON object goes to standard output and,
with a plot, to `runs/profiling`.
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
from vitmalis.detector.flops import merging_flops, vit_cost
from vitmalis.detector.token_merging import with_merging
from vitmalis.matching import DEFAULT_RULE
from vitmalis.regions.classify import task_relevance
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis_jobs.common.arguments import listed
from vitmalis_jobs.common.cli import job_parser
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import has_random_weights
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.profiling.measured_result import measuring_job
from vitmalis_jobs.profiling.next_to_full import Comparison, Trial, add_subject_options, load_subject
from vitmalis_jobs.profiling.real_clips import ALL

MERGING, MIXED = "merging", "mixed resolution"
COLUMNS = ("clip", "method", "token_share", "restoration_point", "tokens", "flop_ratio", "time_ratio", "f1")


@dataclass(frozen=True, slots=True)
class Reduction:
    """A way to have fewer tokens.

    Attributes:
        method: `MERGING` or `MIXED`.
        token_share: share of the tokens that is left, in window blocks or before the restoration point.
        restoration_point: of mixed resolution; None of merging, which restores tokens before each global block.
    """

    method: str
    token_share: float
    restoration_point: int | None = None


def reductions(shares: Sequence[float], points: Sequence[int]) -> list[Reduction]:
    """List what is compared: merging, then mixed resolution with each restoration point, at each share."""
    merging = [Reduction(MERGING, share) for share in shares]
    return merging + [Reduction(MIXED, share, point) for point in points for share in shares]


def mask_of_share(grid: RegionGrid, token_share: float, reference: Detections, seed: int) -> BoolMask:
    """Downsample regions until the share of tokens is reached, or all regions are low.

    Args:
        grid: of the frame.
        token_share: tokens to keep, of those of the full frame.
        reference: boxes of the full model; regions without any that count come first.
        seed: of the order among them, and among the others.
    """
    has_object = task_relevance(grid, reference.above(DEFAULT_RULE.score_threshold)).ravel() > 0
    order = np.random.default_rng(seed).permutation(has_object.size)
    mask = np.zeros(grid.shape, np.bool_)
    full = grid.tokens(mask)
    for region in order[np.argsort(has_object[order], kind="stable")]:
        if grid.tokens(mask) <= token_share * full:
            break
        mask.flat[region] = True
    return mask


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Run the detector on all clips.

    Raises:
        UserError: no such model, clip, share or restoration point, or a count that is not positive.
    """
    subject = load_subject(options, terminal)
    detector = subject.detector
    points = subject.chosen_points(options.points or [detector.geometry.restoration_points])
    merging = {share: with_merging(detector, share) for share in options.token_shares}

    def trial(way: Reduction, image: RgbImage, reference: Detections, seed: int) -> Trial:
        grid, vit = detector.config.region_grid(*image.shape[:2]), detector.model.backbone.vit.config
        full = vit_cost(vit, grid)
        if way.method == MERGING:
            ratio = merging_flops(vit, grid, way.token_share) / full.flops
            numbers = {"tokens": round(way.token_share * full.tokens[0]), "flop_ratio": ratio}
            return Trial(lambda: merging[way.token_share].detect(image), numbers)
        mask, point = mask_of_share(grid, way.token_share, reference, seed), way.restoration_point or 0
        numbers = {"tokens": grid.tokens(mask), "flop_ratio": vit_cost(vit, grid, mask, point).flops / full.flops}
        return Trial(lambda: detector.detect(image, mask, point), numbers)

    ways = reductions(sorted(merging, reverse=True), points)
    comparison = Comparison(detector, ways, trial, options.seed)
    rows = comparison.rows(subject.clips, options.frames, terminal, "token merging")
    if has_random_weights(subject.model):
        rows = [row | {"f1": None} for row in rows]  # boxes of random weights mean nothing
    return {**subject.facts(options), "rows": rows}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw F1 over time of all clips: a line for merging, and one for each restoration point."""
    figure, (axes,) = canvas(f"{result['model']}: merging next to mixed resolution at equal numbers of tokens")
    overall = [row for row in result["rows"] if row["clip"] == ALL]
    curves = dict.fromkeys((row["method"], row["restoration_point"]) for row in overall)
    for position, (method, point) in enumerate(curves):
        rows = [row for row in overall if (row["method"], row["restoration_point"]) == (method, point)]
        times, f1 = [1.0] + [row["time_ratio"] for row in rows], [1.0] + [row["f1"] or 0.0 for row in rows]
        label = method if point is None else f"{method}, restoration point {point}"
        axes.plot(times, f1, "o-", ms=4, color=colour(position), label=label)
        for row, x, y in zip(rows, times[1:], f1[1:], strict=True):
            axes.annotate(f"{row['token_share']:.0%}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel="inference time, relative to the full model", ylabel="F1 against the full model", ylim=(0, 1.04))
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.token_merging",
        "Measure time and F1 of token merging (ToMe) next to mixed resolution at equal numbers of tokens.",
        {
            "": "the embedded model, minutes",
            "--clips market1906 --frames 4 --token-shares 0.5": "a quick look",
        },
    )
    add_subject_options(parser)
    shares = [0.75, 0.5, 0.25]
    parser.add_argument("--token-shares", type=listed(float, 0, 1), default=shares, help="shares of tokens to keep")
    parser.add_argument(
        "--points", type=listed(int, 1, 99), help="restoration points of mixed resolution (default: the last)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/profiling/token_merging.json"), help="file of the result"
    )
    return parser


main = measuring_job(command_line, measure, title="{model} {model_id}", columns=COLUMNS, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
