"""The endless stream of training images: a sample is a pure function of (seed, batch, place in the batch, stage).

A run that stops after batch k and starts again at batch k therefore sees the same images, which makes resuming exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitmalis.detector import BatchTargets
from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection.augment import cut, distort
from vitmalis_jobs.training.detection.config import Stage
from vitmalis_jobs.training.detection.distortion import random_distortion
from vitmalis_jobs.training.detection.labelled_clips import LabelledFrame
from vitmalis_jobs.training.detection.labels import CLASSES, IGNORE, Targets
from vitmalis_jobs.training.detection.rendered_source import RenderedSource
from vitmalis_jobs.training.detection.street_frames import StreetFrame
from vitmalis_jobs.training.detection.views import random_view, targets_in

COLUMN = {label: column for column, label in enumerate(CLASSES)}
"""Column of the class logits that each class is learned in."""


def stage_at(stages: tuple[Stage, ...], progress: float) -> int:
    """Index of the stage at a progress of 0..1."""
    return next((i for i, stage in enumerate(stages) if progress < stage.until), len(stages) - 1)


@dataclass
class TrainingStream(Dataset):
    """Map-style data set of training images with targets.

    Attributes:
        clips: training frames by clip name; no clip is empty.
        weights: how often each clip is drawn, relative to the others.
        street: training frames of many places, empty to train without them.
        street_share: share of the samples that are street frames.
        rendered: rendered scenes, or None to train on clips only.
        rendered_share: share of the samples of a batch that are rendered.
        views_per_frame: consecutive batches that take views of the same rendered frames.
        stages: sizes and scales of the views over the run.
        seed: of everything random.
    """

    clips: dict[str, list[LabelledFrame]]
    weights: dict[str, float]
    street: Sequence[StreetFrame]
    street_share: float
    rendered: RenderedSource | None
    rendered_share: float
    views_per_frame: int
    stages: tuple[Stage, ...]
    seed: int

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Targets]:
        """Image uint8 (3, height, width) and its targets, for a key (batch number, place in the batch, stage index)."""
        batch, place, stage_index = key
        stage = self.stages[stage_index]
        size = stage.sizes[int(np.random.default_rng([self.seed, batch]).integers(len(stage.sizes)))]
        rng = np.random.default_rng([self.seed, batch, place])
        image, targets = self._source(rng, batch, place, stage.batch)
        view = random_view(rng, (image.shape[1], image.shape[0]), targets, size, stage.scales)
        pixels = distort(cut(image, view), random_distortion(rng))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), targets_in(view, targets)

    def _source(self, rng: np.random.Generator, batch: int, place: int, batch_size: int) -> tuple[RgbImage, Targets]:
        rendered = round(self.rendered_share * batch_size)
        if self.rendered is not None and place < rendered:
            return self.rendered.frame(batch // self.views_per_frame * rendered + place)
        frames = self._real_frames(rng)
        frame = frames[int(rng.integers(len(frames)))]
        return frame.image(), frame.targets

    def _real_frames(self, rng: np.random.Generator) -> Sequence[LabelledFrame | StreetFrame]:
        """Draw the frames that a sample is of: those of a clip, or the street frames."""
        real_share = 1 - (self.rendered_share if self.rendered is not None else 0.0)
        if self.street and (not self.clips or rng.random() * real_share < self.street_share):
            return self.street
        names = list(self.clips)
        weights = np.array([self.weights.get(name, 1.0) for name in names])
        return self.clips[names[int(rng.choice(len(names), p=weights / weights.sum()))]]


@dataclass
class BatchKeys(Sampler):
    """Endless keys of a stream's batches from `first_batch` on; `progress` of a batch number decides the stage."""

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
    """A batch of training images.

    Attributes:
        images: uint8 (B, 3, height, width).
        targets: of the images; labels are indices into `CLASSES`.
    """

    images: Tensor
    targets: BatchTargets


def collate(samples: list[tuple[Tensor, Targets]]) -> Batch:
    """Stack samples, all of one size, into a batch."""
    targets = BatchTargets.padded([as_tensors(targets) for _, targets in samples])
    return Batch(torch.stack([image for image, _ in samples]), targets)


def as_tensors(targets: Targets) -> dict[str, Tensor]:
    """Targets in the form that `BatchTargets.padded` takes: `boxes` (N, 4), `labels` (N,), `ignore_boxes` (M, 4)."""
    objects = targets.objects()
    ignored = targets.boxes_xyxy[targets.labels == IGNORE]
    columns = torch.tensor([COLUMN[int(label)] for label in objects.labels], dtype=torch.int64)
    return {"boxes": torch.from_numpy(objects.boxes_xyxy), "labels": columns, "ignore_boxes": torch.from_numpy(ignored)}


def loader(stream: TrainingStream, first_batch: int, progress: Callable[[int], float], workers: int) -> DataLoader:
    """Batches in order from `first_batch` on, prepared ahead in worker processes (0: in this one)."""
    extra: dict[str, Any] = {"prefetch_factor": 3, "worker_init_fn": _single_thread} if workers else {}
    keys = BatchKeys(stream, first_batch, progress)
    return DataLoader(stream, batch_sampler=keys, collate_fn=collate, num_workers=workers, **extra)


def _single_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
