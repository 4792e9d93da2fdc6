"""Batches of training images: the samples of a stream, computed in worker processes or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitmalis.detector import BatchTargets
from vitmalis_jobs.training.detection.augment import cut, distort
from vitmalis_jobs.training.detection.device_augment import Distortions, Views
from vitmalis_jobs.training.detection.device_frames import DeviceFrames
from vitmalis_jobs.training.detection.labels import CLASSES, IGNORE, Targets
from vitmalis_jobs.training.detection.stream import Sample, TrainingStream, stage_at

COLUMN = {label: column for column, label in enumerate(CLASSES)}
"""Column of the class logits that each class is learned in."""

Progress = Callable[[int], float]
"""Share of the run, 0..1, that is over when a batch is drawn."""


class Batch(NamedTuple):
    """A batch of training images, in the memory of the device that trains.

    Attributes:
        images: (B, 3, height, width), 0..255, uint8 or float.
        targets: of the images; labels are indices into `CLASSES`.
        whole_frames: whether each image shows a whole frame.
    """

    images: Tensor
    targets: BatchTargets
    whole_frames: bool


class Batches(Protocol):
    """Where training images come from."""

    def from_batch(self, first: int, progress: Progress) -> Iterator[Batch]:
        """Yield the batches in order, from batch number `first` on, without end."""


@dataclass
class BatchKeys(Sampler):
    """Endless keys of a stream's batches from `first` on; the progress decides the stage."""

    stream: TrainingStream
    first: int
    progress: Progress

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        batch = self.first
        while True:
            stage = stage_at(self.stream.stages, self.progress(batch))
            yield [(batch, place, stage) for place in range(self.stream.plan(batch, stage).samples)]
            batch += 1


@dataclass
class CpuBatches:
    """Batches whose images worker processes compute with OpenCV (0 workers: this process)."""

    stream: TrainingStream
    workers: int

    def from_batch(self, first: int, progress: Progress) -> Iterator[Batch]:
        """Yield the batches in order, in the memory of the CPU."""
        keys = BatchKeys(self.stream, first, progress)
        return iter(_loader(SampleImages(self.stream), keys, _collate_images, self.workers))


@dataclass
class SampleImages(Dataset):
    """The samples of a stream with their images."""

    stream: TrainingStream

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Sample]:
        """Image uint8 (3, height, width) and sample."""
        sample = self.stream[key]
        image = distort(cut(self.stream.frames[sample.frame].image(), sample.view), sample.distortion)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), sample


def _collate_images(images: list[tuple[Tensor, Sample]]) -> Batch:
    samples = [sample for _, sample in images]
    return Batch(torch.stack([image for image, _ in images]), _targets(samples), samples[0].whole_frame)


@dataclass
class DeviceBatches:
    """Batches whose images a device computes from frames in its memory; worker processes only draw the samples."""

    stream: TrainingStream
    workers: int
    frames: DeviceFrames

    def from_batch(self, first: int, progress: Progress) -> Iterator[Batch]:
        """Yield the batches in order, in the memory of the device."""
        keys = BatchKeys(self.stream, first, progress)
        device = self.frames.device
        for drawn in _loader(self.stream, keys, _collate_drawn, self.workers, pin_memory=device.type == "cuda"):
            images = self.frames.images(drawn.frames, drawn.views, drawn.distortions, drawn.size)
            yield Batch(images, drawn.targets.to(device), drawn.whole_frames)


class DrawnBatch(NamedTuple):
    """The samples of a batch, packed.

    Attributes:
        frames: int64 (B,), indices into the stream's frames.
        views, distortions, targets: of the samples.
        size: width and height of the views, pixels.
        whole_frames: whether each view shows a whole frame.
    """

    frames: Tensor
    views: Views
    distortions: Distortions
    targets: BatchTargets
    size: tuple[int, int]
    whole_frames: bool


def _collate_drawn(samples: list[Sample]) -> DrawnBatch:
    views = [sample.view for sample in samples]
    return DrawnBatch(
        torch.tensor([sample.frame for sample in samples]),
        Views.packed(views),
        Distortions.packed([sample.distortion for sample in samples]),
        _targets(samples),
        (views[0].width_px, views[0].height_px),
        samples[0].whole_frame,
    )


def _targets(samples: list[Sample]) -> BatchTargets:
    return BatchTargets.padded([as_tensors(sample.targets) for sample in samples])


def as_tensors(targets: Targets) -> dict[str, Tensor]:
    """Targets in the form that `BatchTargets.padded` takes: `boxes` (N, 4), `labels` (N,), `ignore_boxes` (M, 4)."""
    objects = targets.objects()
    ignored = targets.boxes_xyxy[targets.labels == IGNORE]
    columns = torch.tensor([COLUMN[int(label)] for label in objects.labels], dtype=torch.int64)
    return {"boxes": torch.from_numpy(objects.boxes_xyxy), "labels": columns, "ignore_boxes": torch.from_numpy(ignored)}


def _loader(
    data: Dataset, keys: BatchKeys, collate: Callable[[list], Any], workers: int, pin_memory: bool = False
) -> DataLoader:
    """Batches of a data set in the order of the keys, prepared ahead in worker processes (0: in this one)."""
    extra: dict[str, Any] = {}
    if workers:  # forking a process with threads may deadlock it
        extra = {"prefetch_factor": 3, "worker_init_fn": _single_thread, "multiprocessing_context": "spawn"}
    return DataLoader(data, batch_sampler=keys, collate_fn=collate, num_workers=workers, pin_memory=pin_memory, **extra)


def _single_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
