"""The endless stream of training samples: each is a pure function of (seed, batch, place in the batch, stage).

A run that stops after batch k and starts again at batch k therefore sees the same samples, which makes resuming exact.
Nothing is decoded or computed on pixels here; see `batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset

from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection.config import Stage, WholeFrameOptions
from vitmalis_jobs.training.detection.distortion import Distortion, random_distortion
from vitmalis_jobs.training.detection.labels import Targets
from vitmalis_jobs.training.detection.views import View, random_view, targets_in, whole_frame_view


class TrainingFrame(Protocol):
    """A frame with its targets, decoded on demand."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame, pixels."""

    @property
    def targets(self) -> Targets:
        """Objects and ignored boxes, in pixels of the frame."""

    def image(self) -> RgbImage:
        """Decode the frame, RGB of `size`."""


@dataclass(frozen=True)
class Source:
    """Frames of one origin, and how often one of them is drawn, relative to the other sources."""

    name: str
    frames: Sequence[TrainingFrame]
    share: float


class BatchPlan(NamedTuple):
    """What the samples of a batch have in common.

    Attributes:
        samples: how many they are.
        size: width and height of the views, pixels.
        whole_frames: whether each shows a whole frame.
    """

    samples: int
    size: tuple[int, int]
    whole_frames: bool


@dataclass(frozen=True)
class Sample:
    """A training image that is yet to be computed, with its targets.

    Attributes:
        frame: index into the stream's frames.
        view: window onto the frame.
        distortion: of the view.
        targets: in pixels of the view.
        whole_frame: whether the view shows the whole frame.
    """

    frame: int
    view: View
    distortion: Distortion
    targets: Targets
    whole_frame: bool


def stage_at(stages: tuple[Stage, ...], progress: float) -> int:
    """Index of the stage at a progress of 0..1."""
    return next((i for i, stage in enumerate(stages) if progress < stage.until), len(stages) - 1)


@dataclass
class TrainingStream(Dataset):
    """Map-style data set of training samples.

    Attributes:
        sources: none of them empty.
        stages: sizes and scales of the views over the run.
        whole_frames: how many batches show whole frames.
        batch_scale: factor of the numbers of samples in a batch.
        seed: of everything random.
    """

    sources: tuple[Source, ...]
    stages: tuple[Stage, ...]
    whole_frames: WholeFrameOptions
    batch_scale: int
    seed: int

    @cached_property
    def frames(self) -> list[TrainingFrame]:
        """The frames of all sources."""
        return [frame for source in self.sources for frame in source.frames]

    @cached_property
    def _first(self) -> list[int]:
        """Index of the first frame of each source."""
        return [0, *np.cumsum([len(source.frames) for source in self.sources]).tolist()]

    @cached_property
    def _shares(self) -> np.ndarray:
        shares = np.array([source.share for source in self.sources])
        return shares / shares.sum()

    def plan(self, batch: int, stage_index: int) -> BatchPlan:
        """What the samples of a batch have in common."""
        rng, stage = np.random.default_rng([self.seed, batch]), self.stages[stage_index]
        size = stage.sizes[int(rng.integers(len(stage.sizes)))]
        if rng.random() < self.whole_frames.share:
            return BatchPlan(self.whole_frames.batch * self.batch_scale, self.whole_frames.size, True)
        return BatchPlan(stage.batch * self.batch_scale, size, False)

    def __getitem__(self, key: tuple[int, int, int]) -> Sample:
        """The sample of a key (batch number, place in the batch, stage index)."""
        batch, place, stage_index = key
        plan = self.plan(batch, stage_index)
        rng = np.random.default_rng([self.seed, batch, place])
        source = int(rng.choice(len(self.sources), p=self._shares))
        index = self._first[source] + int(rng.integers(len(self.sources[source].frames)))
        frame = self.frames[index]
        if plan.whole_frames:
            view = whole_frame_view(rng, frame.size, plan.size)
        else:
            view = random_view(rng, frame.size, frame.targets, plan.size, self.stages[stage_index].scales)
        return Sample(index, view, random_distortion(rng), targets_in(view, frame.targets), plan.whole_frames)
