"""The frames that a detector is judged by: the last third of each clip, and scenes of seeds that nothing trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitmalis.detector.fcos import FcosDetector
from vitmalis.types import Detections, RgbImage
from vitmalis_jobs.training.detection.clips import ClipParts
from vitmalis_jobs.training.detection.contact_sheet import contact_sheet, draw, save_picture
from vitmalis_jobs.training.detection.labels import Targets, rendered_targets
from vitmalis_jobs.training.detection.scores import LOWEST_SCORE, Scores, score
from vitmalis_jobs.training.detection.stream import Scene


@dataclass(frozen=True)
class HeldOutSet:
    """Named frames with their targets, loaded when asked for."""

    name: str
    load: Callable[[], list[tuple[RgbImage, Targets]]]


def clip_set(parts: ClipParts, frames: int) -> HeldOutSet:
    """Evenly spaced frames of a clip's held-out part (all of them if there are fewer)."""
    count = min(frames, len(parts.held_out))
    chosen = [parts.held_out[i] for i in np.linspace(0, len(parts.held_out) - 1, count).round().astype(int)]
    return HeldOutSet(parts.name, lambda: [(frame.image(), frame.targets) for frame in chosen])


def rendered_set(make: Callable[[str, int], Scene], profile: str, frames: int) -> HeldOutSet:
    """One frame of each of `frames` scenes with seeds 1, 2, ..."""

    def load() -> list[tuple[RgbImage, Targets]]:
        drawn = [make(profile, seed).render_full(30 * seed) for seed in range(1, frames + 1)]
        return [(frame.image, rendered_targets(frame.boxes, frame.visible)) for frame in drawn]

    return HeldOutSet(f"rendered_{profile}", load)


def predict(model: FcosDetector, image: RgbImage, bf16: bool) -> Detections:
    """Detect in one frame."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model.predict(tensor)[0].above(LOWEST_SCORE)


def judge(
    model: FcosDetector, sets: Sequence[HeldOutSet], pictures: Path | None = None, bf16: bool = False
) -> dict[str, Scores]:
    """Score a model on every set.

    Args:
        model: in evaluation mode.
        sets: what to look at.
        pictures: folder for a contact sheet `<set>.jpg` of at most six frames of each set.
        bf16: whether to infer with automatic mixed precision.
    """
    result = {}
    for held_out in sets:
        frames = held_out.load()
        found = [predict(model, image, bf16) for image, _ in frames]
        result[held_out.name] = score(found, [truth for _, truth in frames])
        if pictures is not None:
            shown = np.linspace(0, len(frames) - 1, min(6, len(frames))).round().astype(int)
            tiles = [draw(frames[i][0], found[i], frames[i][1]) for i in shown]
            save_picture(pictures / f"{held_out.name}.jpg", contact_sheet(tiles, 3, 640))
    return result
