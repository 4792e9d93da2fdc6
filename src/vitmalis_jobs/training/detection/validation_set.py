"""Validation sets of a detector: the eval part of each clip, and street scenes and rendered scenes not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vitmalis.detector.detector import image_tensor
from vitmalis.detector.fcos import FcosDetector
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.training.detection.contact_sheet import contact_sheet, draw, save_image
from vitmalis_jobs.training.detection.detection_scores import LOWEST_SCORE, DetectionScores, score, score_line, shown
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip
from vitmalis_jobs.training.detection.labels import VALIDATED_SIDE_PX, Targets, rendered_targets
from vitmalis_jobs.training.detection.rendered_scenes import Scene
from vitmalis_jobs.training.detection.scale_robustness import detect_halved, own_box_f1
from vitmalis_jobs.training.detection.street_frames import StreetFrame


@dataclass(frozen=True)
class ValidationSet:
    """A named set of frames with their targets, loaded on demand.

    Attributes:
        name: of the clip, `street`, `folder_<name>`, or `rendered_<profile>`.
        load: reads or renders the frames and their targets.
    """

    name: str
    load: Callable[[], list[tuple[RgbImage, Targets]]]


def clip_set(clip: LabelledClip, frames: int) -> ValidationSet:
    """Evenly spaced frames of a clip's validation part, or all where there are fewer."""
    chosen = [clip.validation[i] for i in evenly_spaced(len(clip.validation), frames)]
    return ValidationSet(clip.name, lambda: [(frame.image(), frame.targets) for frame in chosen])


def street_set(name: str, frames: Sequence[StreetFrame], frames_per_scene: int) -> ValidationSet:
    """Evenly spaced frames of each scene, so that no long clip outweighs the others."""
    scenes: dict[str, list[StreetFrame]] = defaultdict(list)
    for frame in frames:
        scenes[frame.scene].append(frame)
    chosen = [scene[i] for scene in scenes.values() for i in evenly_spaced(len(scene), frames_per_scene)]
    return ValidationSet(name, lambda: [(frame.image(), frame.targets) for frame in chosen])


def rendered_set(make: Callable[[str, int], Scene], profile: str, frames: int) -> ValidationSet:
    """One frame of each of `frames` scenes with seeds 1, 2, ..."""

    def load() -> list[tuple[RgbImage, Targets]]:
        rendered = [make(profile, seed).render_full(30 * seed) for seed in range(1, frames + 1)]
        return [(frame.image, rendered_targets(frame.boxes, frame.visible, VALIDATED_SIDE_PX)) for frame in rendered]

    return ValidationSet(f"rendered_{profile}", load)


def predict(model: FcosDetector, image: RgbImage, bf16: bool = False) -> Detections:
    """Detect objects in one image, down to `LOWEST_SCORE`, on the model's device."""
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return model.predict(image_tensor(image, device))[0].above(LOWEST_SCORE)


@dataclass(frozen=True)
class SetScores:
    """Scores of a model on one validation set.

    Attributes:
        full: against the labels, in frames of full size.
        half_size: against the labels, in frames that are sent at half the size.
        halved_f1: F1 of the halved frames against the model's own boxes at full size; None if it finds none.
    """

    full: DetectionScores
    half_size: DetectionScores
    halved_f1: float | None

    def line(self) -> str:
        """Format the scores as one line of a log."""
        halved = f"F1 {shown(self.half_size.f1)}, against the model's own boxes {shown(self.halved_f1)}"
        return f"{score_line(self.full)}; frames of half size: {halved}"


def evaluate(
    model: FcosDetector, sets: Sequence[ValidationSet], sheets: Path | None = None, bf16: bool = False
) -> dict[str, SetScores]:
    """Score a model on every validation set.

    Args:
        model: in evaluation mode.
        sets: validation sets.
        sheets: folder for a contact sheet `<set>.jpg` of at most six frames of each set; None for no sheets.
        bf16: whether to infer with automatic mixed precision.
    """
    detect = partial(predict, model, bf16=bf16)
    scores = {}
    for validation_set in sets:
        frames = validation_set.load()
        truth = [targets for _, targets in frames]
        found = [detect(image) for image, _ in frames]
        halved = [detect_halved(detect, image) for image, _ in frames]
        scores[validation_set.name] = SetScores(score(found, truth), score(halved, truth), own_box_f1(halved, found))
        if sheets is not None:
            tiles = [draw(frames[i][0], found[i], frames[i][1]) for i in evenly_spaced(len(frames), 6)]
            save_image(sheets / f"{validation_set.name}.jpg", contact_sheet(tiles, 3, 640))
    return scores


def evenly_spaced(length: int, count: int) -> list[int]:
    """At most `count` evenly spaced indices into a sequence, from its first to its last."""
    return [int(i) for i in np.linspace(0, length - 1, min(count, length)).round()]
