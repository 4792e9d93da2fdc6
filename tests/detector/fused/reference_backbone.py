"""The interface of the fast path's backbone on the eager transformer.

Triton's interpreter takes a minute for a forward pass: tests of what is around the backbone use this one on a CPU, and
the real one on a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitmalis.detector.detector import image_tensor
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.postprocess import pad_to_multiple
from vitmalis.detector.vit import ViT
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask

Colour = tuple[float, float, float]


class ReferenceWeights:
    """Stands for the weights of the fast path: the transformer itself."""

    def __init__(self, net: ViT, dtype: torch.dtype) -> None:
        self.net, self.dtype = net, dtype


class ReferenceSlot:
    """Holds the frames that were loaded last."""

    def __init__(self, bucket: int, batch: int, frames: str) -> None:
        self.bucket, self.batch, self.frames = bucket, batch, frames
        self.loaded: tuple[Sequence[np.ndarray], Sequence[BoolMask | None]] = ((), ())


class ReferenceBackbone:
    """`FusedBackbone` for one frame size, buckets of 16 tokens."""

    def __init__(
        self,
        weights: ReferenceWeights,
        grid: RegionGrid,
        mean: Colour,
        std: Colour,
        *,
        batch: int = 1,
        gelu: str = "exact",
    ) -> None:
        self._net, self._grid, self._mean, self._std = weights.net, grid, torch.tensor(mean), torch.tensor(std)
        self._batch = batch
        self._slots: dict[tuple[int, int, str], ReferenceSlot] = {}

    def bucket(self, mask: BoolMask | None) -> int:
        return 0 if mask is None or not mask.any() else -(-self._grid.tokens(mask) // 16)

    def buckets(self) -> list[int]:
        rows, cols = self._grid.shape
        masks = (np.array(bits).reshape(rows, cols) for bits in itertools.product([False, True], repeat=rows * cols))
        return sorted({self.bucket(mask) for mask in masks} - {0})

    def slot(self, bucket: int, batch: int = 1, frames: str = "patches") -> ReferenceSlot:
        assert batch <= self._batch
        return self._slots.setdefault((bucket, batch, frames), ReferenceSlot(bucket, batch, frames))

    def load(self, slot: ReferenceSlot, frames: Sequence[np.ndarray], masks: Sequence[BoolMask | None]) -> None:
        slot.loaded = frames, [np.zeros(self._grid.shape, np.bool_) if mask is None else mask for mask in masks]

    def run(self, slot: ReferenceSlot, restoration_point: int) -> Tensor:
        point = restoration_point if slot.bucket else 1
        return torch.cat([self._features(slot, frame, mask, point) for frame, mask in zip(*slot.loaded, strict=True)])

    def _features(self, slot: ReferenceSlot, frame: np.ndarray, mask: BoolMask, point: int) -> Tensor:
        assert self.bucket(mask) <= slot.bucket
        layout = mixed_layout(self._grid, mask, torch.device("cpu"))
        if slot.frames == "images":
            mean, std = self._mean.view(3, 1, 1), self._std.view(3, 1, 1)
            padded = pad_to_multiple((image_tensor(frame) - mean) / std, self._grid.factor * self._grid.patch_px)
            pixels = layout.cut(padded)
        else:
            scaled = (torch.as_tensor(frame)[None].float() - self._mean) / self._std
            pixels = scaled * layout.inside()[..., None]
        return self._net.forward_patches(pixels, layout, point)
