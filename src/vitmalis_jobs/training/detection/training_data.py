"""Training and validation images as the configuration describes them: labelled clips and rendered scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitmalis.paths import cache_dir
from vitmalis.video.standin import StreetScene
from vitmalis_jobs.training.detection.config import ClipOptions, DetectorTrainingConfig
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip, original_video, prepare_clip
from vitmalis_jobs.training.detection.rendered_source import RenderedSource, Scene
from vitmalis_jobs.training.detection.stream import TrainingStream
from vitmalis_jobs.training.detection.validation_set import ValidationSet, clip_set, rendered_set

FRAME_SIZE = (960, 540)
"""Width and height of rendered scenes, pixels."""


def read_clips(options: ClipOptions) -> list[LabelledClip]:
    """Decode the clips that `clips.weights` names and read their labels.

    Raises:
        UserError: a video or its labels are missing or unreadable.
    """
    folder, cache = Path(options.folder), cache_dir()
    clips = []
    for name in options.weights:
        video = original_video(name, folder, cache)
        clips.append(prepare_clip(name, video, folder / "labels" / f"{name}.csv", cache / "detector_training"))
    return clips


@dataclass(frozen=True)
class SceneMaker:
    """Factory of rendered scenes with one frame rate; picklable, so that worker processes can have it."""

    fps: float

    def __call__(self, profile: str, seed: int) -> Scene:
        """Scene of a profile and a seed, `FRAME_SIZE` pixels."""
        return StreetScene(profile, seed, *FRAME_SIZE, self.fps)


def training_stream(config: DetectorTrainingConfig, clips: list[LabelledClip]) -> TrainingStream:
    """The stream of training images: views of the clips' training parts and of rendered scenes."""
    options = config.rendered
    rendered = None
    if options.share > 0:
        rendered = RenderedSource(
            SceneMaker(options.fps), options.profiles, options.first_seed, options.frames_per_scene
        )
    return TrainingStream(
        clips={clip.name: clip.train for clip in clips},
        weights=config.clips.weights,
        rendered=rendered,
        rendered_share=options.share,
        views_per_frame=options.views_per_frame,
        stages=config.stages,
        seed=config.train.seed,
    )


def validation_sets(config: DetectorTrainingConfig, clips: list[LabelledClip]) -> list[ValidationSet]:
    """One validation set for each clip, and one for each profile of rendered scenes."""
    sets = [clip_set(clip, config.held_out.frames_per_clip) for clip in clips]
    if config.rendered.share > 0:
        make, count = SceneMaker(config.rendered.fps), config.held_out.frames_per_profile
        sets += [rendered_set(make, profile, count) for profile in config.rendered.profiles]
    return sets
