"""Training and validation images as configured: labelled clips, street frames and rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.paths import cache_dir
from vitmalis_jobs.training.detection.config import ClipOptions, DetectorTrainingConfig, RenderedOptions
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip, LabelledFrame, original_video, prepare_clip
from vitmalis_jobs.training.detection.rendered_frames import RenderedFrame, rendered_frames
from vitmalis_jobs.training.detection.rendered_scenes import SceneMaker
from vitmalis_jobs.training.detection.stream import Source, TrainingStream
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


def scene_maker(options: RenderedOptions) -> SceneMaker:
    """The factory of rendered scenes."""
    return SceneMaker(FRAME_SIZE, options.fps)


def render_frames(options: RenderedOptions, workers: int) -> list[RenderedFrame]:
    """The rendered frames for training, of which worker processes make those that the cache does not have."""
    if options.share == 0:
        return []
    return rendered_frames(scene_maker(options), options, cache_dir() / "detector_training", workers)


def training_stream(
    config: DetectorTrainingConfig, clips: list[LabelledClip], street: StreetFrames, rendered: Sequence[LabelledFrame]
) -> TrainingStream:
    """The stream of training samples: of clips and street frames, their training parts, and of rendered frames.

    Raises:
        UserError: there is no real frame, but a share of the samples is real.
    """
    sources = [*real_sources(config, clips, street), Source("rendered", rendered, config.rendered.share)]
    return TrainingStream(
        sources=tuple(source for source in sources if source.share > 0),
        stages=config.stages,
        whole_frames=config.whole_frames,
        batch_scale=config.train.batch_scale,
        seed=config.train.seed,
    )


def real_sources(config: DetectorTrainingConfig, clips: list[LabelledClip], street: StreetFrames) -> list[Source]:
    """The training parts of the clips and the street frames; the clips' share is what the other sources leave.

    Where there are no clips, or no street frames, the others take their share.

    Raises:
        UserError: there is no real frame, but a share of the samples is real.
    """
    share = 1 - config.rendered.share
    clips = [clip for clip in clips if clip.train]
    if share > 0 and not clips and not street.train:
        raise UserError(
            f"rendered.share={config.rendered.share:g} leaves samples for real frames, and there are none: name clips "
            "in clips.weights, bring street frames, or train with rendered.share=1 street.share=0"
        )
    street_share = (config.street.share if clips else share) if street.train else 0.0
    weights = config.clips.weights
    unit = (share - street_share) / (sum(weights[clip.name] for clip in clips) or 1.0)
    sources = [Source(clip.name, clip.train, unit * weights[clip.name]) for clip in clips]
    return [*sources, Source("street", street.train, street_share)]


def validation_sets(
    config: DetectorTrainingConfig, clips: list[LabelledClip], street: StreetFrames
) -> list[ValidationSet]:
    """One validation set for each clip, one of street frames, one for each folder and each rendered profile."""
    sets = [clip_set(clip, config.held_out.frames_per_clip) for clip in clips]
    if street.validation:
        sets.append(street_set("street", street.validation, config.held_out.frames_per_street_scene))
    sets += [folder_set(Path(folder)) for folder in config.held_out.folders]
    if config.rendered.share > 0:
        make, count = scene_maker(config.rendered), config.held_out.frames_per_profile
        sets += [rendered_set(make, profile, count) for profile in config.rendered.profiles]
    return sets


def folder_set(folder: Path) -> ValidationSet:
    """All frames of a folder of labelled frames that nothing trains on.

    Raises:
        UserError: see `read_labelled_folder`.
    """
    return street_set(f"folder_{folder.resolve().name}", read_labelled_folder(folder, FRAME_SIZE), 1)
