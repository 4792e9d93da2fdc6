"""Training images of rendered scenes with the masks of their objects, and what a mask head is to predict in boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

from vitmalis.instance_masks import MASK_SIDE
from vitmalis_jobs.training.detection.augment import cut, cut_objects, distort
from vitmalis_jobs.training.detection.batches import BatchKeys, Progress
from vitmalis_jobs.training.detection.labels import MIN_SIDE_PX
from vitmalis_jobs.training.detection.rendered_frames import RenderedFrame
from vitmalis_jobs.training.detection.stream import TrainingStream


class ViewObjects(NamedTuple):
    """The objects of one training image.

    Attributes:
        owners: uint8 (height, width), number of the object that each pixel shows, 0 for none.
        numbers: uint8 (N,), of the objects.
        boxes: float (N, 4), around their visible pixels, xyxy in pixels.
    """

    owners: Tensor
    numbers: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, owners: NDArray[np.uint8]) -> ViewObjects:
        """The objects of a map that have a side of at least `MIN_SIDE_PX` pixels."""
        found = {int(number): _box(owners == number) for number in np.unique(owners) if number}
        kept = {n: box for n, box in found.items() if max(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE_PX}
        numbers = torch.tensor([*kept], dtype=torch.uint8)
        return cls(torch.from_numpy(owners), numbers, torch.tensor([*kept.values()], dtype=torch.float32).view(-1, 4))

    def drawn(self, rng: np.random.Generator, most: int, jitter: float) -> ViewObjects:
        """At most so many objects, with boxes whose sides are moved at random by this share of the box."""
        chosen = torch.from_numpy(np.sort(rng.permutation(len(self.numbers))[:most]))
        boxes = self.boxes[chosen]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        moved = boxes + torch.from_numpy(rng.normal(0, jitter, boxes.shape)).float() * sides
        height, width = self.owners.shape
        moved = moved.clamp(min=0).minimum(torch.tensor([width, height] * 2))
        solid = ((moved[:, 2:] - moved[:, :2]) >= 1).all(1)
        return ViewObjects(self.owners, self.numbers[chosen][solid], moved[solid])

    def masks(self) -> Tensor:
        """The share of each mask cell that shows the object: float (N, 28, 28)."""
        maps = (self.owners == self.numbers[:, None, None]).float()[:, None]
        rows = torch.arange(len(self.numbers), dtype=torch.float32)[:, None]
        return roi_align(maps, torch.cat([rows, self.boxes], 1), MASK_SIDE, sampling_ratio=0, aligned=True)[:, 0]


def _box(mine: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class MaskBatch(NamedTuple):
    """A batch of training images with their objects.

    Attributes:
        images: uint8 (B, 3, height, width).
        objects: of each image.
        whole_frames: whether each image shows a whole frame.
    """

    images: Tensor
    objects: list[ViewObjects]
    whole_frames: bool


@dataclass
class MaskBatches:
    """The batches of a stream of rendered frames, computed in the training process."""

    stream: TrainingStream

    def from_batch(self, first: int, progress: Progress) -> Iterator[MaskBatch]:
        """Yield the batches in order, from batch number `first` on, without end."""
        for keys in BatchKeys(self.stream, first, progress):
            yield self._batch(keys)

    def _batch(self, keys: list[tuple[int, int, int]]) -> MaskBatch:
        images, objects, whole_frames = [], [], False
        for key in keys:
            sample = self.stream[key]
            frame = self.stream.frames[sample.frame]
            assert isinstance(frame, RenderedFrame)
            image = distort(cut(frame.image(), sample.view), sample.distortion)
            images.append(torch.from_numpy(image).permute(2, 0, 1))
            objects.append(ViewObjects.of(cut_objects(frame.objects(), sample.view)))
            whole_frames = sample.whole_frame
        return MaskBatch(torch.stack(images), objects, whole_frames)
