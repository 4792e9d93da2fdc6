"""F1 and share of filtered frames by threshold of `policy=reducto`: `python -m profiling.filtering`.

Each clip is filtered as the policy would if results came at once: the reference boxes of a frame that passes are
tracked through those that are filtered after it, and compared with their references. The largest threshold whose F1
over all clips is at least the target is the choice. Only profile parts are played, as policies are compared on the
others. One JSON object goes to standard output and, with a plot, to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector import load_detector
from vitmalis.errors import UserError
from vitmalis.matching import DEFAULT_RULE, Counts, match
from vitmalis.policy.frame_change import ChangeFilter, edge_pixels
from vitmalis.policy.reducto import SEGMENT_S
from vitmalis.tracker import TRACKERS, Tracker
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.checks import check_trained
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import boxes_cache
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.model_arguments import add_model_choice, add_model_options, model_facts, model_options
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.profiling.measured_result import report_result
from vitmalis_jobs.profiling.real_clips import ALL, add_clip_options, find_clips
from vitmalis_jobs.profiling.tracking import find_references

THRESHOLDS = (0.0, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.2, 0.3)
COLUMNS = ("clip", "threshold", "filtered_share", "f1")


def passed_frames(edges: Sequence[BoolMask], threshold: float, fps: float) -> list[int]:
    """Numbers of the frames of a clip that pass the filter."""
    change, passed = ChangeFilter(threshold, SEGMENT_S), [0]
    for index, of_frame in enumerate(edges):
        if change.passes(of_frame, (index - passed[-1]) / fps) and index:
            passed.append(index)
    return passed


def shown_counts(
    tracker: Tracker, images: Sequence[RgbImage], references: Sequence[Detections], passed: Sequence[int]
) -> Counts:
    """Matches of all frames of a clip, each with the boxes of the last frame that passed, tracked to it."""
    counts = Counts(0, 0, 0)
    for start, end in pairwise([*passed, len(images)]):
        boxes = references[start].above(DEFAULT_RULE.score_threshold)
        counts += match(boxes, references[start])
        tracker.restart(tracker.prepare(images[start]), boxes)
        for index in range(start + 1, end):
            counts += match(tracker.advance([tracker.prepare(images[index])]), references[index])
    return counts


def filtered_clip(
    spec: VideoSpec, references: Sequence[Detections], tracker: str, thresholds: Sequence[float]
) -> dict[float, tuple[int, Counts]]:
    """Number of filtered frames, and the matches of all, by threshold."""
    images = list(open_video(spec))
    edges = [edge_pixels(image) for image in images]
    found = {}
    for threshold in thresholds:
        passed = passed_frames(edges, threshold, spec.fps)
        found[threshold] = len(images) - len(passed), shown_counts(TRACKERS[tracker](), images, references, passed)
    return found


def row(clip: str, threshold: float, frames: int, filtered: int, counts: Counts) -> dict[str, Any]:
    """The row of a clip and a threshold in the result."""
    share, f1 = round(filtered / frames, 4), None if counts.f1 is None else round(counts.f1, 4)
    return {"clip": clip, "threshold": threshold, "filtered_share": share, "f1": f1}


def rows_of(clips: dict[str, tuple[int, dict[float, tuple[int, Counts]]]]) -> list[dict[str, Any]]:
    """Rows of each clip, then of all together, from its frames and what each threshold gave."""
    rows = [row(name, at, frames, *of) for name, (frames, found) in clips.items() for at, of in found.items()]
    total = sum(frames for frames, _ in clips.values())
    for threshold in next(iter(clips.values()))[1]:
        each = [found[threshold] for _, found in clips.values()]
        counts = sum((counts for _, counts in each), Counts(0, 0, 0))
        rows.append(row(ALL, threshold, total, sum(filtered for filtered, _ in each), counts))
    return rows


def chosen_threshold(rows: Sequence[dict[str, Any]], target: float) -> float | None:
    """The largest threshold whose F1 over all clips is at least the target; None if there is none."""
    good = [row["threshold"] for row in rows if row["clip"] == ALL and (row["f1"] or 0.0) >= target]
    return max(good, default=None)


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Filter all clips with every threshold.

    Raises:
        UserError: no such model, tracker or clip, or a number that is out of range.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = model_options(options, weights=options.weights)
    check_trained(model, "F1 is compared")
    detector = load_detector(model.name, **model.detector_options, compiled=model.compile)
    specs, left_out = find_clips(options, terminal)
    clips = {}
    for number, spec in enumerate(specs):
        references = find_references(spec, detector, boxes_cache(model), terminal)
        terminal.step(number, len(specs), "filtering", spec.name)
        clips[spec.name] = spec.frames, filtered_clip(spec, references, options.tracker, options.thresholds)
    rows = rows_of(clips)
    return {
        "model": detector.name,
        "model_id": detector.model_id,
        "tracker": options.tracker,
        "target_f1": options.target,
        "change_threshold": chosen_threshold(rows, options.target),
        "segment_s": SEGMENT_S,
        **model_facts(model),
        "left_out": left_out,
        "rows": rows,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw F1 over the share of filtered frames, a line for each clip and one for all."""
    figure, (axes,) = canvas(f"{result['model']}: F1 of filtered clips, {result['tracker']}", columns=1)
    for position, clip in enumerate(dict.fromkeys(row["clip"] for row in result["rows"])):
        own = [row for row in result["rows"] if row["clip"] == clip]
        shares, f1 = [row["filtered_share"] for row in own], [row["f1"] for row in own]
        axes.plot(shares, f1, "o-", ms=3, color=colour(position), label=clip)
    axes.axhline(result["target_f1"], color="grey", lw=0.8)
    axes.set(xlabel="share of frames that are not offloaded", ylabel="F1 of tracked references", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.filtering",
        "Learn the threshold of policy=reducto: F1 and share of filtered frames by threshold, on profile parts.",
        {
            "": "thresholds on all clips, minutes",
            "--clips market1906 --target 0.85": "one clip, with less F1 to keep",
        },
    )
    add_model_choice(parser, weights=True)
    add_clip_options(parser, seconds=10.0)
    parser.add_argument("--tracker", choices=tuple(TRACKERS), default="lucas_kanade", help="tracker of the client")
    parser.add_argument(
        "--thresholds", type=float, nargs="+", metavar="SHARE", default=THRESHOLDS, help="shares of pixels to try"
    )
    parser.add_argument("--target", type=float, default=0.9, help="F1 that the chosen threshold has to keep")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/filtering.json"), help="file of the result")
    parser.set_defaults(part="profile")
    add_model_options(parser)
    return parser


def check(options: argparse.Namespace) -> None:
    """Check the values of the command line.

    Raises:
        UserError: one is out of range.
    """
    check_positive(options, "seconds")
    if not 0 <= options.target <= 1:
        raise UserError(f"--target {options.target}: give an F1 from 0 to 1")
    if wrong := [threshold for threshold in options.thresholds if not 0 <= threshold <= 1]:
        raise UserError(f"--thresholds {wrong[0]}: give shares of pixels from 0 to 1")


def profile(options: argparse.Namespace) -> None:
    """Measure, draw, print and store."""
    check(options)
    terminal, meter = Terminal.on_stderr(), LoadMeter()
    result = measure(options, terminal)
    title = f"filtering on references of {result['model']} {result['model_id']}"
    report_result(result, options.output, terminal, meter.load(), title=title, columns=COLUMNS, draw=draw)
    if result["change_threshold"] is not None:
        terminal.note(f"policy.change_threshold={result['change_threshold']:g} keeps an F1 of {options.target:g}")
    else:
        terminal.warn(f"no threshold keeps an F1 of {options.target:g}")


main = option_job(command_line, profile)


if __name__ == "__main__":
    sys.exit(main())
