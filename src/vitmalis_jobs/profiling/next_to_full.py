"""Time and F1 of ways to run a detector on real clips, next to the full model on the same frames.

`Way`, the type of a way, is a frozen dataclass of a job, whose fields are columns of the result.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import torch

from vitmalis.detector import Detector, load_detector
from vitmalis.errors import UserError
from vitmalis.matching import DEFAULT_RULE, Counts, match
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.clips import read_frames, spread_frames
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.model_arguments import (
    add_geometry_options,
    add_model_choice,
    add_model_options,
    model_facts,
    model_options,
)
from vitmalis_jobs.common.timing import Stopwatch
from vitmalis_jobs.profiling.real_clips import ALL, add_clip_options, find_clips

Way = TypeVar("Way")


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run the detector on one image.

    Attributes:
        run: detects objects in the image.
        numbers: of this image, by column; rows have their means.
    """

    run: Callable[[], Detections]
    numbers: dict[str, float]


@dataclass(slots=True)
class Outcome:
    """Counts and times of one way over the frames of a clip, or of all clips."""

    counts: Counts = field(default_factory=Counts)
    ms: list[float] = field(default_factory=list)
    time_ratios: list[float] = field(default_factory=list)
    numbers: list[dict[str, float]] = field(default_factory=list)

    def add(self, counts: Counts, ms: float, full_ms: float, numbers: dict[str, float]) -> None:
        """Add one frame, with the time of the full model on it."""
        self.counts += counts
        self.ms.append(ms)
        self.time_ratios.append(ms / full_ms)
        self.numbers.append(numbers)

    def row(self, clip: str, way: Any) -> dict[str, Any]:
        """The row of a way in the result."""
        means = {key: statistics.mean(own[key] for own in self.numbers) for key in self.numbers[0]}
        return {
            "clip": clip,
            **asdict(way),
            "inference_ms": round(statistics.median(self.ms), 2),
            "time_ratio": round(statistics.median(self.time_ratios), 4),
            "f1": None if self.counts.f1 is None else round(self.counts.f1, 4),
            **{key: round(mean, 4) for key, mean in means.items()},
            "frames": len(self.ms),
            "tp": self.counts.tp,
            "fp": self.counts.fp,
            "fn": self.counts.fn,
        }


@dataclass(frozen=True, slots=True)
class Comparison(Generic[Way]):
    """The full model and the ways that are compared with it.

    Attributes:
        detector: the full model.
        ways: to run it.
        trial: makes a way ready for an image, from the boxes of the full model and a seed.
        seed: of choices and order.
    """

    detector: Detector
    ways: Sequence[Way]
    trial: Callable[[Way, RgbImage, Detections, int], Trial]
    seed: int

    def rows(self, clips: Sequence[VideoSpec], frames: int, terminal: Terminal, label: str) -> list[dict[str, Any]]:
        """Rows of every way for each clip, then for all clips together.

        Args:
            clips: on which everything runs.
            frames: of each clip, at even distances.
            terminal: where progress goes.
            label: of the progress.
        """
        overall = {way: Outcome() for way in self.ways}
        rows: list[dict[str, Any]] = []
        done, total = 0, len(clips) * frames
        for spec in clips:
            own = {way: Outcome() for way in self.ways}
            for index, image in read_frames(spec, spread_frames(spec, frames)):
                terminal.step(done, total, label, f"{spec.name}, frame {index}")
                self._measure(image, self.seed + index, {way: (own[way], overall[way]) for way in self.ways})
                done += 1
            rows += [own[way].row(spec.name, way) for way in self.ways]
        terminal.step(total, total, label)
        return rows + [overall[way].row(ALL, way) for way in self.ways]

    def _measure(self, image: RgbImage, seed: int, outcomes: dict[Way, tuple[Outcome, ...]]) -> None:
        """Run all ways on one image, in a random order, and add it to their outcomes."""
        stopwatch = Stopwatch(self.detector.device)
        reference = stopwatch.warm_up(lambda: self.detector.detect(image))
        for position in np.random.default_rng(seed).permutation(len(self.ways)):
            way = self.ways[int(position)]
            trial = self.trial(way, image, reference, seed)
            stopwatch.rehearse(trial.run)
            found, elapsed_s = stopwatch.timed(trial.run)
            _, full_s = stopwatch.timed(self.detector.detect, image)  # directly after it: what slows one slows both
            for outcome in outcomes[way]:
                outcome.add(match(found, reference), 1e3 * elapsed_s, 1e3 * full_s, trial.numbers)


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector and the clips that a job measures it on.

    Attributes:
        model: options of the detector.
        detector: the full model.
        clips: those that are available.
        left_out: why the others are not, by name.
    """

    model: ModelOptions
    detector: Detector
    clips: list[VideoSpec]
    left_out: dict[str, str]

    def facts(self, options: argparse.Namespace) -> dict[str, Any]:
        """What the measurement depends on, for its result."""
        detector = self.detector
        return {
            "model": detector.name,
            "model_id": detector.model_id,
            "window": detector.geometry.window,
            "downsampling_factor": detector.geometry.factor,
            "threads": options.threads,
            "torch": torch.__version__,
            **model_facts(self.model),
            "part": options.part,
            "rule": {"score_threshold": DEFAULT_RULE.score_threshold, "iou_threshold": DEFAULT_RULE.iou_threshold},
            "stand_ins": {spec.name: spec.stand_in for spec in self.clips if spec.stand_in},
            "left_out": self.left_out,
        }

    def variant(self, **changes: Any) -> Detector:
        """Load the detector with other options of the model, such as `precision`.

        Raises:
            UserError: the device or the engine does not have what they ask for.
        """
        return load_model(msgspec.structs.replace(self.model, **changes))

    def chosen_points(self, points: Sequence[int]) -> list[int]:
        """The restoration points of `--points`, rising.

        Raises:
            UserError: the detector does not have one of them.
        """
        last = self.detector.geometry.restoration_points
        if wrong := [point for point in points if point > last]:
            raise UserError(f"--points: {self.detector.name} has restoration points 0 to {last}, not {wrong[0]}")
        return sorted(points)


def load_model(model: ModelOptions) -> Detector:
    """Load the detector that the options of a built-in model describe."""
    return load_detector(model.name, **model.detector_options, compiled=model.compile)


def load_subject(options: argparse.Namespace, terminal: Terminal) -> Subject:
    """Load the detector and find the clips that the options of `add_subject_options` name.

    Raises:
        UserError: no such model or clip, or a count that is not positive.
    """
    check_positive(options, "frames", "threads")
    torch.set_num_threads(options.threads)
    flags = {"weights": options.weights, "window": options.window, "downsampling_factor": options.downsampling_factor}
    model = model_options(options, **flags)
    detector = load_model(model)
    clips, left_out = find_clips(options, terminal, max_width=options.max_width, max_height=options.max_height)
    return Subject(model, detector, clips, left_out)


def add_subject_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a detector, the clips and their frames to a command line."""
    add_model_choice(parser, weights=True)
    add_geometry_options(parser)
    add_clip_options(parser, seconds=600.0)
    parser.add_argument("--part", choices=("eval", "profile"), default="eval", help="part of each clip")
    parser.add_argument("--frames", type=int, default=12, help="frames of each clip, at even distances")
    parser.add_argument("--max-width", type=int, default=960, help="largest width of frames in pixels")
    parser.add_argument("--max-height", type=int, default=540, help="largest height of frames in pixels")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of regions, and of the order")
    add_model_options(parser)
