"""The transformer of a detector as launches of fused kernels, for frames of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitmalis.detector.batched_layout import MixedBatch
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.vit import ViT
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, RgbImage

PLAIN = 0
"""The bucket of frames without downsampled regions."""

BUCKET_TOKENS = 256
"""Token counts of mixed frames are rounded up to a multiple of this."""


class FusedWeights:
    """The parameters of a transformer in the type that its products run in, held once for all frame sizes.

    Args:
        net: the transformer; its own parameters stay as they are.
        dtype: of products and attention, bfloat16 or float32; norms and residual sums are float32 in both.
    """

    def __init__(self, net: ViT, dtype: torch.dtype) -> None:
        self.net, self.config, self.dtype = net, net.config, dtype
        self.device = net.pos_embed.device


class Slot:
    """Static buffers on the device for a batch of frames of one bucket, which a CUDA graph can refer to.

    Attributes:
        bucket: tokens of a frame, rounded up; `PLAIN` for frames without downsampled regions.
        batch: number of frames.
    """

    def __init__(self, bucket: int, batch: int) -> None:
        self.bucket, self.batch = bucket, batch
        self.pixels: Tensor | None = None
        self.masks: Sequence[BoolMask] = ()


class FusedBackbone:
    """Maps the bytes of frames of one size to features; slots hold what a frame brings, `run` only launches kernels.

    Args:
        weights: of the transformer.
        grid: geometry of the frames.
        mean, std: RGB, on the scale 0..255.
        batch: largest number of frames in a batch.
    """

    def __init__(
        self, weights: FusedWeights, grid: RegionGrid, mean: Sequence[float], std: Sequence[float], *, batch: int = 1
    ) -> None:
        self.weights, self.grid, self.batch = weights, grid, batch
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self._slots: dict[tuple[int, int], Slot] = {}

    def bucket(self, mask: BoolMask | None) -> int:
        """The bucket of a frame with this mask: frames of one bucket make a batch and share a CUDA graph.

        Raises:
            UserError: the mask does not fit the grid.
        """
        if mask is None or not self.grid.check(mask).any():
            return PLAIN
        return -(-(self.grid.tokens(mask) + 1) // BUCKET_TOKENS) * BUCKET_TOKENS

    def slot(self, bucket: int, batch: int = 1) -> Slot:
        """The buffers of a bucket and a number of frames, made the first time."""
        return self._slots.setdefault((bucket, batch), Slot(bucket, batch))

    def load_patches(self, slot: Slot, patches: Sequence[NDArray[np.uint8]], masks: Sequence[BoolMask | None]) -> None:
        """Copy frames given as patches to a slot, without waiting for the device.

        Later work of the current stream sees them; work that was queued before is not disturbed.

        Args:
            slot: of the frames' bucket and number.
            patches: of each frame, RGB uint8 (T, patch, patch, 3), in the order of `MixedLayout`.
            masks: of each frame, bool (rows, cols) of regions, True for low resolution; None for none.
        """
        slot.masks = [np.zeros(self.grid.shape, np.bool_) if mask is None else mask for mask in masks]
        slot.pixels = torch.from_numpy(np.stack(patches)).to(self.weights.device)

    def load_images(self, slot: Slot, images: Sequence[RgbImage], masks: Sequence[BoolMask | None]) -> None:
        """Copy whole frames, RGB uint8 (H, W, 3), to a slot; regions are downsampled on the device by their masks.

        For the rest, see `load_patches`.
        """
        raise NotImplementedError

    def run(self, slot: Slot, restoration_point: int) -> Tensor:
        """Queue the kernels that map the frames in a slot to features of full resolution; nothing waits for the device.

        A CUDA graph of this call holds for every mask of the slot's bucket.

        Args:
            slot: with frames loaded.
            restoration_point: 0 to N, see `ViT.forward_patches`; without effect for the bucket `PLAIN`.

        Returns:
            float32 (B, C, rows, cols), channels last in memory: `permute(0, 2, 3, 1)` is a view without gaps in a row.
        """
        assert slot.pixels is not None
        layouts = [mixed_layout(self.grid, mask, self.weights.device) for mask in slot.masks]
        layout = layouts[0] if len(layouts) == 1 else MixedBatch.of(layouts)
        pixels = (slot.pixels.float() - self.mean) / self.std * layout.inside()[..., None]
        return self.weights.net.forward_patches(pixels, layout, restoration_point if slot.bucket else 1)
