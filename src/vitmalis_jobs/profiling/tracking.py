"""F1 of tracked boxes by their age, and what tracking costs: `python -m profiling.tracking`.

Reference boxes of frames spread over each clip are carried by each tracker to the 30 frames that follow, each of them
reached in one catch-up, and matched with the references there. Times are medians of a captured frame's preparation and
of a catch-up over 15 frames. One JSON object goes to standard output and, with a plot, to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector import load_detector
from vitmalis.matching import DEFAULT_RULE, Counts, match
from vitmalis.references import ReferenceDetector, compute_references
from vitmalis.tracker import TRACKERS, Tracker
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.checks import check_trained
from vitmalis_jobs.common.cli import job_parser
from vitmalis_jobs.common.clips import spread_frames
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import boxes_cache
from vitmalis_jobs.common.model_arguments import add_model_choice, add_model_options, model_facts, model_options
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.common.timing import timed
from vitmalis_jobs.profiling.measured_result import measuring_job
from vitmalis_jobs.profiling.real_clips import ALL, add_clip_options, find_clips

AGES = range(1, 31)
TIMED_FRAMES = 15
"""Length of the catch-up whose time is reported, frames."""
SHOWN_AGES = (1, 3, 6, 9, 12, 18, 24, 30)
COLUMNS = ("clip", "tracker", "prepare_ms", "catch_up_ms", *(f"f1_at_{age}" for age in SHOWN_AGES))


@dataclass(slots=True)
class Outcome:
    """Counts by age and times of one tracker, over the frames of a clip or of all clips."""

    counts: dict[int, Counts] = field(default_factory=lambda: dict.fromkeys(AGES, Counts()))
    prepare_s: list[float] = field(default_factory=list)
    catch_up_s: list[float] = field(default_factory=list)

    def __iadd__(self, other: Outcome) -> Outcome:
        """Add what another clip gave."""
        self.counts = {age: self.counts[age] + other.counts[age] for age in AGES}
        self.prepare_s += other.prepare_s
        self.catch_up_s += other.catch_up_s
        return self

    def row(self, clip: str, tracker: str) -> dict[str, Any]:
        """The row of a tracker in the result; ages that no frame reaches have no F1."""
        f1 = {age: None if counts.f1 is None else round(counts.f1, 4) for age, counts in self.counts.items()}
        return {
            "clip": clip,
            "tracker": tracker,
            "prepare_ms": _median_ms(self.prepare_s),
            "catch_up_ms": _median_ms(self.catch_up_s),
            **{f"f1_at_{age}": f1[age] for age in SHOWN_AGES},
            "f1_by_age": list(f1.values()),
            "boxes_by_age": [counts.tp + counts.fn for counts in self.counts.values()],
        }


def _median_ms(seconds: Sequence[float]) -> float | None:
    return round(1e3 * statistics.median(seconds), 3) if seconds else None


def track_clip(
    tracker: Tracker, images: Sequence[RgbImage], references: Sequence[Detections], starts: Sequence[int]
) -> Outcome:
    """Carry the references of some frames to those that follow.

    Args:
        tracker: a new one.
        images: the frames of a clip, RGB uint8 (H, W, 3).
        references: of each frame.
        starts: frames whose references are tracked.
    """
    outcome = Outcome()
    prepared = []
    for image in images:
        made, prepare_s = timed(tracker.prepare, image)
        prepared.append(made)
        outcome.prepare_s.append(prepare_s)
    for start in starts:
        known = references[start].above(DEFAULT_RULE.score_threshold)
        for age in range(1, min(AGES.stop, len(images) - start)):
            tracker.restart(prepared[start], known)
            found, catch_up_s = timed(tracker.advance, prepared[start + 1 : start + age + 1])
            outcome.counts[age] += match(found, references[start + age])
            if age == TIMED_FRAMES and len(known):
                outcome.catch_up_s.append(catch_up_s)
    return outcome


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Measure every tracker on all clips.

    Raises:
        UserError: no such model or clip, or a number that is not positive.
    """
    check_positive(options, "starts", "seconds")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = model_options(options, weights=options.weights)
    check_trained(model, "F1 is compared")
    detector = load_detector(model.name, **model.detector_options, compiled=model.compile)
    clips, left_out = find_clips(options, terminal)
    return {
        "model": detector.name,
        "model_id": detector.model_id,
        "part": options.part,
        "starts": options.starts,
        "ages": list(AGES),
        "catch_up_frames": TIMED_FRAMES,
        **model_facts(model),
        "opencv": cv2.__version__,
        "rule": {"score_threshold": DEFAULT_RULE.score_threshold, "iou_threshold": DEFAULT_RULE.iou_threshold},
        "left_out": left_out,
        "rows": measure_clips(detector, clips, options.starts, boxes_cache(model), terminal),
    }


def find_references(spec: VideoSpec, detector: ReferenceDetector, cache: Path, terminal: Terminal) -> list[Detections]:
    """References of a clip, from the cache where possible."""

    def step(done: int, total: int) -> None:
        terminal.step(done, total, "references", spec.name)

    return compute_references(spec, detector, step, cache)


def measure_clips(
    detector: ReferenceDetector, clips: Sequence[VideoSpec], starts: int, cache: Path, terminal: Terminal
) -> list[dict[str, Any]]:
    """Rows of every tracker for each clip, then for all clips together."""
    overall = {name: Outcome() for name in TRACKERS}
    rows = []
    for spec in clips:
        references = find_references(spec, detector, cache, terminal)
        images = list(open_video(spec))
        for number, (name, kind) in enumerate(TRACKERS.items()):
            terminal.step(number, len(TRACKERS), "tracking", f"{spec.name}, {name}")
            outcome = track_clip(kind(), images, references, spread_frames(spec, starts))
            overall[name] += outcome
            rows.append(outcome.row(spec.name, name))
        terminal.step(len(TRACKERS), len(TRACKERS), "tracking", spec.name)
    return rows + [outcome.row(ALL, name) for name, outcome in overall.items()]


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw F1 over age: a panel for each clip and one for all, a line for each tracker."""
    clips = list(dict.fromkeys(row["clip"] for row in result["rows"]))
    figure, axes = canvas(f"{result['model']}: F1 of tracked references by age", columns=len(clips), sharey=True)
    for own, clip in zip(axes, clips, strict=True):
        for position, row in enumerate(row for row in result["rows"] if row["clip"] == clip):
            own.plot(result["ages"], row["f1_by_age"], "o-", ms=3, color=colour(position), label=row["tracker"])
        own.set(title=clip, xlabel="age, frames", ylim=(0, 1.02))
    axes[0].set_ylabel("F1 against the references of the frame")
    axes[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.tracking",
        "Measure the F1 of tracked boxes by their age, and what each tracker costs.",
        {
            "": "eval parts of the clips, minutes",
            "--part profile --clips market1906": "what training.decay fits, of one clip",
        },
    )
    add_model_choice(parser, weights=True)
    add_clip_options(parser, seconds=10.0)
    parser.add_argument("--part", choices=("eval", "profile"), default="eval", help="part of each clip")
    parser.add_argument("--starts", type=int, default=40, help="frames of each clip whose boxes are tracked")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/tracking.json"), help="file of the result")
    add_model_options(parser)
    return parser


main = measuring_job(
    command_line, measure, title="trackers on references of {model} {model_id}", columns=COLUMNS, draw=draw
)


if __name__ == "__main__":
    sys.exit(main())
