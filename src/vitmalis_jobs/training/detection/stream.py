"""The endless stream of training images: sample i of a run is a pure function of (seed, i, stage).

That is what makes resuming exact: a run that stops after batch k and starts again at batch k sees the same pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitmalis.types import RgbImage
from vitmalis.video.standin import SceneFrame
from vitmalis_jobs.training.detection.augment import apply_view, photometric, random_view
from vitmalis_jobs.training.detection.clips import ClipFrame
from vitmalis_jobs.training.detection.labels import CLASSES, IGNORE, Targets, rendered_targets

REMEMBERED_FRAMES = 16
COLUMN = {label: column for column, label in enumerate(CLASSES)}


@dataclass(frozen=True)
class Stage:
    """A part of the schedule.

    Attributes:
        until: progress (0..1) at which the stage ends.
        batch: images per batch.
        sizes: (width, height) in pixels of the views; a batch draws one of them.
        scales: smallest and largest scale of a view.
    """

    until: float
    batch: int
    sizes: tuple[tuple[int, int], ...]
    scales: tuple[float, float]


def stage_at(stages: tuple[Stage, ...], progress: float) -> int:
    """Index of the stage that a progress of 0..1 belongs to."""
    return next((i for i, stage in enumerate(stages) if progress < stage.until), len(stages) - 1)


class Scene(Protocol):
    """A rendered scene that knows its boxes."""

    def render_full(self, frame_index: int) -> SceneFrame:
        """Frame, its true boxes and how much of each is visible."""


@dataclass
class RenderedSource:
    """Frames of seeded scenes, `frames_per_scene` of each, spread over its time.

    Attributes:
        make: (profile, seed) -> scene.
        profiles: names of the profiles, drawn in turn.
        first_seed: training scenes use the seeds from here on; held-out scenes use seeds below.
    """

    make: Callable[[str, int], Scene]
    profiles: tuple[str, ...]
    first_seed: int
    frames_per_scene: int
    frame_step: int = 11
    _open: OrderedDict[tuple[str, int], Scene] = field(default_factory=OrderedDict)
    _rendered: OrderedDict[int, tuple[RgbImage, Targets]] = field(default_factory=OrderedDict)

    def frame(self, number: int) -> tuple[RgbImage, Targets]:
        """Frame of the endless sequence of rendered frames, and its targets; the last few are remembered."""
        if number not in self._rendered:
            self._rendered[number] = self._render(number)
            if len(self._rendered) > REMEMBERED_FRAMES:
                self._rendered.popitem(last=False)
        return self._rendered[number]

    def _render(self, number: int) -> tuple[RgbImage, Targets]:
        turn, profile = divmod(number, len(self.profiles))
        scene, moment = divmod(turn, self.frames_per_scene)
        key = (self.profiles[profile], self.first_seed + scene)
        if key not in self._open:
            self._open[key] = self.make(*key)
            if len(self._open) > 2 * len(self.profiles):
                self._open.popitem(last=False)
        frame = self._open[key].render_full(moment * self.frame_step)
        return frame.image, rendered_targets(frame.boxes, frame.visible)


@dataclass
class TrainingStream(Dataset):
    """Map-style data set over (sample number, stage index).

    Attributes:
        clips: frames to learn from by clip name.
        weights: how often a clip is drawn, by name, relative to the others.
        rendered: rendered scenes, or None to learn from clips alone.
        rendered_share: share of samples that are rendered.
        views_per_frame: how many batches in a row look at the same rendered frames, each at other parts of them.
        seed: of everything random.
    """

    clips: dict[str, list[ClipFrame]]
    weights: dict[str, float]
    rendered: RenderedSource | None
    rendered_share: float
    views_per_frame: int
    stages: tuple[Stage, ...]
    seed: int

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Targets]:
        """Image uint8 (3, height, width) and its targets, for key (batch number, place in it, stage index)."""
        batch, place, stage_index = key
        stage = self.stages[stage_index]
        size = stage.sizes[int(np.random.default_rng([self.seed, batch]).integers(len(stage.sizes)))]
        rng = np.random.default_rng([self.seed, batch, place])
        image, targets = self._source(rng, batch, place, stage.batch)
        view = random_view(rng, (image.shape[1], image.shape[0]), targets, size, stage.scales)
        seen, moved = apply_view(image, targets, view)
        return torch.from_numpy(photometric(rng, seen)).permute(2, 0, 1).contiguous(), moved

    def _source(self, rng: np.random.Generator, batch: int, place: int, batch_size: int) -> tuple[RgbImage, Targets]:
        rendered = round(self.rendered_share * batch_size)
        if self.rendered is not None and place < rendered:
            return self.rendered.frame(batch // self.views_per_frame * rendered + place)
        names = [name for name in self.clips if self.clips[name]]
        weights = np.array([self.weights.get(name, 1.0) for name in names])
        frames = self.clips[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        frame = frames[int(rng.integers(len(frames)))]
        return frame.image(), frame.targets


@dataclass
class BatchKeys(Sampler):
    """Keys of batch after batch, from any batch on; asks the schedule which stage is on."""

    stream: TrainingStream
    first_batch: int
    progress: Callable[[int], float]

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        batch = self.first_batch
        while True:
            stage = stage_at(self.stream.stages, self.progress(batch))
            yield [(batch, place, stage) for place in range(self.stream.stages[stage].batch)]
            batch += 1


@dataclass(frozen=True)
class Batch:
    """A batch on its way to the model.

    Attributes:
        images: uint8 (B, 3, height, width).
        targets: per image `boxes` (N, 4), `labels` (N,) as indices into `CLASSES`, `ignore_boxes` (M, 4).
    """

    images: Tensor
    targets: list[dict[str, Tensor]]


def collate(samples: list[tuple[Tensor, Targets]]) -> Batch:
    """Stack samples of one size."""
    return Batch(torch.stack([image for image, _ in samples]), [as_tensors(targets) for _, targets in samples])


def as_tensors(targets: Targets) -> dict[str, Tensor]:
    """Targets as the model's loss wants them: `boxes` (N, 4), `labels` (N,), `ignore_boxes` (M, 4)."""
    known = targets.known()
    ignored = targets.boxes_xyxy[targets.labels == IGNORE]
    columns = torch.tensor([COLUMN[int(label)] for label in known.labels], dtype=torch.int64)
    return {"boxes": torch.from_numpy(known.boxes_xyxy), "labels": columns, "ignore_boxes": torch.from_numpy(ignored)}


def loader(stream: TrainingStream, first_batch: int, progress: Callable[[int], float], workers: int) -> DataLoader:
    """Batches in order from `first_batch` on, made ahead in worker processes (0: in this one)."""
    extra: dict[str, Any] = {"prefetch_factor": 3, "worker_init_fn": _single_thread} if workers else {}
    keys = BatchKeys(stream, first_batch, progress)
    return DataLoader(stream, batch_sampler=keys, collate_fn=collate, num_workers=workers, **extra)


def _single_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
