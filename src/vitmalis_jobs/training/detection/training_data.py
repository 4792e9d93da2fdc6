"""Training and validation images as configured: labelled clips, street frames and rendered scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.paths import cache_dir
from vitmalis.video.standin import StreetScene
from vitmalis_jobs.training.detection.config import ClipOptions, DetectorTrainingConfig
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip, original_video, prepare_clip
from vitmalis_jobs.training.detection.rendered_source import RenderedSource, Scene
from vitmalis_jobs.training.detection.stream import TrainingStream
from vitmalis_jobs.training.detection.street_frames import StreetFrames, read_labelled_folder
from vitmalis_jobs.training.detection.validation_set import ValidationSet, clip_set, rendered_set, street_set

FRAME_SIZE = (960, 540)
"""Width and height of rendered scenes, and the largest of street frames, pixels."""


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


def training_stream(config: DetectorTrainingConfig, clips: list[LabelledClip], street: StreetFrames) -> TrainingStream:
    """The stream of training images: views of clips and street frames, their training parts, and of rendered scenes.

    Raises:
        UserError: there is no real frame, but a share of the samples is real.
    """
    options = config.rendered
    rendered = None
    if options.share > 0:
        rendered = RenderedSource(
            SceneMaker(options.fps), options.profiles, options.first_seed, options.frames_per_scene
        )
    clip_frames = {clip.name: clip.train for clip in clips if clip.train}
    if options.share < 1 and not clip_frames and not street.train:
        raise UserError(
            f"rendered.share={options.share:g} leaves samples for real frames, and there are none: name clips in "
            "clips.weights, bring street frames, or train with rendered.share=1 street.share=0"
        )
    return TrainingStream(
        clips=clip_frames,
        weights=config.clips.weights,
        street=street.train,
        street_share=config.street.share,
        rendered=rendered,
        rendered_share=options.share,
        views_per_frame=options.views_per_frame,
        stages=config.stages,
        seed=config.train.seed,
    )


def validation_sets(
    config: DetectorTrainingConfig, clips: list[LabelledClip], street: StreetFrames
) -> list[ValidationSet]:
    """One validation set for each clip, one of street frames, one for each folder and each rendered profile."""
    sets = [clip_set(clip, config.held_out.frames_per_clip) for clip in clips]
    if street.validation:
        sets.append(street_set("street", street.validation, config.held_out.frames_per_street_scene))
    sets += [folder_set(Path(folder)) for folder in config.held_out.folders]
    if config.rendered.share > 0:
        make, count = SceneMaker(config.rendered.fps), config.held_out.frames_per_profile
        sets += [rendered_set(make, profile, count) for profile in config.rendered.profiles]
    return sets


def folder_set(folder: Path) -> ValidationSet:
    """All frames of a folder of labelled frames that nothing trains on.

    Raises:
        UserError: see `read_labelled_folder`.
    """
    return street_set(f"folder_{folder.resolve().name}", read_labelled_folder(folder, FRAME_SIZE), 1)
