"""Scores of a detector on clips as runs play them, against its own boxes instead of labels.

They bound what any policy can reach with the detector: how well it knows halved frames, and how steady its boxes are.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitmalis.metrics.hysteresis import Hysteresis, with_hysteresis
from vitmalis.paths import cache_dir
from vitmalis.video.clips import resolve_clip
from vitmalis.video.manifest import clip_entry
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.clips import available_clips, read_frames, spread_frames
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig, ValidationOptions
from vitmalis_jobs.training.detection.detection_scores import shown
from vitmalis_jobs.training.detection.scale_robustness import Detect, detect_enlarged, detect_halved, own_box_f1
from vitmalis_jobs.training.detection.stability import persistence, temporal_stability, tracked_f1

LONGEST_S = 600.0
"""Length of a clip that is a file, at most, s."""


@dataclass(frozen=True)
class OwnBoxScores:
    """Scores against a model's own boxes; None where it finds nothing.

    Attributes:
        halved_f1, enlarged_f1: of frames sent at half the size, and of the same enlarged again, over frames of the
            whole clip; see `scale_robustness`.
        tracked_f1: of references tracked one frame, over consecutive frames; see `stability`, as for the others.
        hysteresis_f1: the same by references with hysteresis, see `vitmalis.metrics.hysteresis`.
        shown_f1: of the detector's own boxes tracked one frame, against references with hysteresis: what a client that
            shows boxes by one score can reach with such references.
        stability, persistence: share of boxes that the next frame has again, with and without optical flow.
    """

    halved_f1: float | None
    enlarged_f1: float | None
    tracked_f1: float | None
    hysteresis_f1: float | None
    shown_f1: float | None
    stability: float | None
    persistence: float | None

    def line(self) -> str:
        """Format the scores as one line of a log."""
        return (
            f"F1 of halved frames {shown(self.halved_f1)} (enlarged {shown(self.enlarged_f1)}), "
            f"of boxes tracked one frame {shown(self.tracked_f1)} (with hysteresis {shown(self.hysteresis_f1)}, "
            f"shown without {shown(self.shown_f1)}); "
            f"stability {shown(self.stability)} (without optical flow {shown(self.persistence)})"
        )


def played_clips(config: DetectorTrainingConfig) -> tuple[dict[str, VideoSpec], dict[str, str]]:
    """The eval parts of the clips in `held_out.played`, and why others are left out, both by name.

    Raises:
        UserError: none is available.
    """

    def resolve(name: str) -> VideoSpec:
        entry = clip_entry(name)
        # Of a rendered clip no more than is looked at: rendering takes longer than detecting.
        seconds = config.held_out.consecutive / entry.fps if entry.kind == "paper" else LONGEST_S
        folder = config.clips.folder if entry.kind == "folder" else None
        return resolve_clip(name, part="eval", seconds=seconds, cache_dir=cache_dir(), folder=folder)

    return available_clips(config.held_out.played, resolve) if config.held_out.played else ({}, {})


def own_box_scores(detect: Detect, clip: VideoSpec, options: ValidationOptions) -> OwnBoxScores:
    """Score a detector on a clip: on frames at even distances, and on consecutive ones in its middle."""
    spread = spread_frames(clip, options.frames_per_clip)
    start = max(0, (clip.frames - options.consecutive) // 2)
    run = range(start, min(clip.frames, start + options.consecutive))
    images = dict(read_frames(clip, {*spread, *run}))
    own = {index: detect(image) for index, image in images.items()}
    chosen = [own[index] for index in spread]
    following, found = [images[index] for index in run], [own[index] for index in run]
    steady = list(with_hysteresis(following, found, Hysteresis()))
    return OwnBoxScores(
        halved_f1=own_box_f1((detect_halved(detect, images[index]) for index in spread), chosen),
        enlarged_f1=own_box_f1((detect_enlarged(detect, images[index]) for index in spread), chosen),
        tracked_f1=tracked_f1(following, found, found),
        hysteresis_f1=tracked_f1(following, steady, steady),
        shown_f1=tracked_f1(following, found, steady),
        stability=temporal_stability(zip(following, found, strict=True)),
        persistence=persistence(found),
    )
