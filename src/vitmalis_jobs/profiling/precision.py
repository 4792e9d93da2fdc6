"""What a precision costs in boxes: `python -m profiling.precision --precisions bf16`.

On frames of each clip, the boxes of a detector in bf16, int8, fp16 or tf32 are compared with those of the same detector
in fp32 on the same device and engine, at full resolution and with half of the regions downsampled. F1, differences of
matched boxes and scores, boxes that only one of the two shows, and the ratio of times are measured. `fp32` itself is
compared on the fused engine with the eager one, which is what that engine costs. One JSON object goes to standard
output and, with a plot, to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

from vitmalis.command_line import CommandLine
from vitmalis.detector import Detector
from vitmalis.detector.engines import EAGER
from vitmalis.detector.precision import PRECISIONS
from vitmalis.errors import UserError
from vitmalis.types import RgbImage
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.arguments import chosen, listed
from vitmalis_jobs.common.checks import check_trained
from vitmalis_jobs.common.cli import job_parser
from vitmalis_jobs.common.clips import read_frames, spread_frames
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.plotting import BLACK, canvas, colour, save_figure
from vitmalis_jobs.common.timing import Stopwatch
from vitmalis_jobs.profiling.box_agreement import BARS, Agreement, agreement, within_bars
from vitmalis_jobs.profiling.inference import nested_mask
from vitmalis_jobs.profiling.measured_result import measuring_job
from vitmalis_jobs.profiling.next_to_full import Subject, add_subject_options, load_subject
from vitmalis_jobs.profiling.real_clips import ALL

MIXED_SHARE = 0.5
"""Share of the regions that mixed resolution downsamples, chosen at random in each frame."""
REFERENCE = "fp32"
COLUMNS = (
    "clip", "precision", "restoration_point", "f1", "boxes", "appeared", "vanished", "crossing",
    "box_px_p95", "box_px_max", "boxes_beyond_bar", "score_p95", "score_max", "time_ratio", "bars_met",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """What is compared with fp32: a precision on an engine, at full or mixed resolution.

    Attributes:
        precision: one of `PRECISIONS`.
        engine: that it runs on.
        reference_engine: that fp32 runs on.
        restoration_point: of mixed resolution; None at full resolution.
    """

    precision: str
    engine: str
    reference_engine: str
    restoration_point: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One frame in one case: how boxes agree with those in fp32, and the times of the two, ms."""

    agreement: Agreement
    ms: float
    reference_ms: float


def row(clip: str, case: Case, frames: Sequence[Measured]) -> dict[str, Any]:
    """The row of a case in the result, from the frames of a clip."""
    numbers = reduce(add, (frame.agreement for frame in frames)).numbers()
    return {
        "clip": clip,
        **asdict(case),
        **numbers,
        "inference_ms": round(statistics.median(frame.ms for frame in frames), 2),
        "reference_ms": round(statistics.median(frame.reference_ms for frame in frames), 2),
        "time_ratio": round(statistics.median(frame.ms / frame.reference_ms for frame in frames), 4),
        "frames": len(frames),
        "bars_met": within_bars(numbers),
    }


def contenders(subject: Subject, precisions: Sequence[str]) -> dict[str, tuple[Detector, Detector]]:
    """The detector in each precision, and what it is compared with.

    Raises:
        UserError: the device or the engine has no such precision, or nothing to compare it with.
    """
    reference = subject.detector
    if "tf32" in precisions and reference.device.type != "cuda":
        raise UserError(f"--precisions tf32: on {reference.device.type} tf32 is fp32; leave it out, or use a CUDA GPU")
    if REFERENCE in precisions and reference.engine == EAGER:
        raise UserError("--precisions fp32: others are compared with it; only model.engine=fused has a cost in fp32")
    found = {}
    for precision in precisions:
        if precision == REFERENCE:
            found[precision] = (reference, subject.variant(engine=EAGER))
            continue
        own = subject.variant(precision=precision)
        same_engine = own.engine == reference.engine
        found[precision] = (own, reference if same_engine else subject.variant(engine=own.engine))
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """Detectors of several precisions, each with its reference.

    Attributes:
        detectors: the detector and its reference by precision.
        points: restoration points of mixed resolution.
        seed: of the regions that are downsampled.
    """

    detectors: dict[str, tuple[Detector, Detector]]
    points: list[int]
    seed: int

    def cases(self) -> list[Case]:
        """List every precision at full resolution, then at mixed resolution with each restoration point."""
        return [
            Case(precision, own.engine, reference.engine, point)
            for precision, (own, reference) in self.detectors.items()
            for point in (None, *self.points)
        ]

    def rows(self, clips: Sequence[VideoSpec], frames: int, terminal: Terminal) -> list[dict[str, Any]]:
        """Rows of every case for each clip, then for all clips together.

        Args:
            clips: on which everything runs.
            frames: of each clip, at even distances.
            terminal: where progress goes.
        """
        cases, rows = self.cases(), []
        overall: dict[Case, list[Measured]] = {case: [] for case in cases}
        for number, spec in enumerate(clips):
            own: dict[Case, list[Measured]] = {case: [] for case in cases}
            for done, (index, image) in enumerate(read_frames(spec, spread_frames(spec, frames))):
                terminal.step(number * frames + done, len(clips) * frames, "precision", f"{spec.name}, frame {index}")
                for case in cases:
                    own[case].append(self._measured(case, image, self.seed + index, reference_first=done % 2 == 1))
            rows += [row(spec.name, case, own[case]) for case in cases]
            overall = {case: overall[case] + own[case] for case in cases}
        terminal.step(len(clips) * frames, len(clips) * frames, "precision")
        return rows + [row(ALL, case, overall[case]) for case in cases]

    def _measured(self, case: Case, image: RgbImage, seed: int, *, reference_first: bool) -> Measured:
        """Run both detectors on an image directly one after the other: what slows one slows both."""
        both, point = self.detectors[case.precision], case.restoration_point
        grid = both[0].config.region_grid(*image.shape[:2])
        mask = None if point is None else nested_mask(grid, MIXED_SHARE, seed)
        runs = [partial(detector.detect, image, mask, point or 0) for detector in both]
        stopwatch = Stopwatch(both[0].device)
        for run in runs:
            stopwatch.rehearse(run)
        order = (1, 0) if reference_first else (0, 1)
        timed = {which: stopwatch.timed(runs[which]) for which in order}
        (found, elapsed_s), (reference, reference_s) = timed[0], timed[1]
        return Measured(agreement(found, reference), 1e3 * elapsed_s, 1e3 * reference_s)


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Run the detector in all precisions on all clips.

    Raises:
        UserError: no such model, clip, precision or restoration point, or a count that is not positive.
    """
    subject = load_subject(options, terminal)
    check_trained(subject.model, "boxes are compared")
    if subject.model.precision != REFERENCE:
        raise UserError(f"model.precision={subject.model.precision}: --precisions says what is compared with fp32")
    points = subject.chosen_points(options.points or [subject.detector.geometry.restoration_points])
    comparison = Comparison(contenders(subject, options.precisions), points, options.seed)
    rows = comparison.rows(subject.clips, options.frames, terminal)
    return {
        **subject.facts(options),
        "downsampled_share": MIXED_SHARE,
        "compared": "with the boxes in fp32 on 'reference_engine', for a mixed frame those of the same mask",
        "bars": BARS,
        "bars_met": all(own["bars_met"] for own in rows if own["clip"] == ALL),
        "rows": rows,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw F1 and differences of boxes of each clip, a colour for each case, next to the bars."""
    figure, axes = canvas(f"{result['model']}: boxes next to those in fp32 ({result['card']})", columns=2)
    clips = list(dict.fromkeys(own["clip"] for own in result["rows"]))
    keys = ("precision", "engine", "restoration_point")
    cases = list(dict.fromkeys(tuple(own[key] for key in keys) for own in result["rows"]))
    for position, case in enumerate(cases):
        rows = [own for own in result["rows"] if tuple(own[key] for key in keys) == case]
        precision, engine, point = case
        label = f"{precision} {engine}, " + ("full" if point is None else f"half low, restoration point {point}")
        for panel, key, marker in ((axes[0], "f1", "o"), (axes[1], "box_px_max", "o"), (axes[1], "box_px_p95", "x")):
            values = [math.nan if own[key] is None else own[key] for own in rows]
            panel.plot(clips, values, marker, ms=5, color=colour(position), label=label)
    for panel, key in ((axes[0], "f1"), (axes[1], "box_px_max")):
        panel.axhline(result["bars"][key], color=BLACK, lw=1, ls="--", label="bar")
        panel.tick_params(axis="x", rotation=30)
    axes[0].set(ylabel="F1 against fp32", ylim=(None, 1.001))
    axes[1].set(ylabel="largest difference of an edge, px (x: of 95 %)", yscale="log")
    axes[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.precision",
        "Measure what a precision costs in boxes, next to fp32 on the same device and engine.",
        {
            "": "bf16 of the embedded model, minutes",
            "--clips market1906 --frames 4 --precisions bf16,int8": "a quick look",
            "--precisions bf16,int8,fp16,tf32 model.device=cuda": "every precision on a GPU",
            "--precisions fp32,bf16 model.device=cuda model.engine=fused": "what the fused engine costs, too",
        },
    )
    add_subject_options(parser)
    parser.add_argument(
        "--precisions",
        type=chosen(PRECISIONS),
        default=["bf16"],
        help=f"precisions that are compared with fp32, of {', '.join(PRECISIONS)}; fp32 itself for the fused engine",
    )
    parser.add_argument(
        "--points", type=listed(int, 0, 99), help="restoration points of mixed resolution (default: the last)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/precision.json"), help="file of the result")
    return parser


main = measuring_job(command_line, measure, title="{model} {model_id}", columns=COLUMNS, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
