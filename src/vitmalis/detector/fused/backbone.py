"""The transformer of a detector as launches of fused kernels, for frames of one size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.devices import on_device
from vitmalis.detector.fused.geometry import FrameGeometry, block_patterns, frame_geometry
from vitmalis.detector.fused.kernels.int8 import FusedInt8Linear
from vitmalis.detector.fused.kernels.mixed import mixed_attention
from vitmalis.detector.fused.kernels.pixels import Scale, frame_pixels, restored_pixels
from vitmalis.detector.fused.kernels.plain import plain_attention
from vitmalis.detector.fused.kernels.rows import add_norm, embed_norm, restore_norm
from vitmalis.detector.fused.kernels.settings import LaunchSettings, launch_settings
from vitmalis.detector.fused.kernels.tables import distance_tables
from vitmalis.detector.fused.kernels.window import window_attention
from vitmalis.detector.fused.plan import PLAIN, bucket_of, mask_buckets, mask_plan, plan_sections
from vitmalis.detector.fused.slots import Arena, DevicePlan, Frame, Frames, Slot, arena_bytes
from vitmalis.detector.fused.weights import BlockWeights, FusedWeights, Linear
from vitmalis.detector.positions import relative_table
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask

Gelu = Literal["exact", "tanh"]
"""GELU by the error function, or its approximation, which cuBLAS computes inside the product before it.

Layers in int8 always take the first, in the kernel that rounds.
"""


class Constants(NamedTuple):
    """What all frames of a size share on the device.

    Attributes:
        positions: float32 (cells, C), absolute positions.
        relative: for each global block the `distance_tables` of rows and of columns; None without relative positions.
        patterns: `block_patterns` in the type of products.
        natural_order: int32 (patch * patch * 3,), the order of values in a patch (patch, patch, 3).
        plain_plan: the plan of frames without downsampled regions.
    """

    positions: Tensor
    relative: dict[int, tuple[Tensor, Tensor] | None]
    patterns: Tensor
    natural_order: Tensor
    plain_plan: DevicePlan


class FusedBackbone:
    """Maps the bytes of frames of one size to features; slots hold what frames bring, `run` only launches kernels.

    Args:
        weights: of the transformer.
        grid: geometry of the frames.
        mean, std: RGB, on the scale 0..255.
        batch: largest number of frames in a batch.
        gelu: how the MLPs compute it.
        settings: how kernels are launched; None for those of the device.

    Attributes:
        geometry: of the frames.
    """

    def __init__(
        self,
        weights: FusedWeights,
        grid: RegionGrid,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        batch: int = 1,
        gelu: Gelu = "exact",
        settings: LaunchSettings | None = None,
    ) -> None:
        self._weights, self._scale, self._gelu = weights, Scale(mean, std), gelu
        self._settings = settings or launch_settings(weights.device, weights.dtype)
        self.geometry = frame_geometry(grid, self._settings.block_keys, self._settings.bucket_tokens)
        self._constants = _constants(weights, self.geometry)
        self._arena = Arena(arena_bytes(self.geometry, batch), weights.device)
        self._slots: dict[tuple[int, int, Frames], Slot] = {}

    def bucket(self, mask: BoolMask | None) -> int:
        """The bucket of a frame with this mask: frames of one bucket make a batch and share a CUDA graph.

        Raises:
            UserError: the mask does not fit the grid.
        """
        return bucket_of(self.geometry, mask)

    def buckets(self) -> list[int]:
        """The buckets of all masks that downsample a region, the smallest first."""
        return mask_buckets(self.geometry)

    def slot(self, bucket: int, batch: int = 1, frames: Frames = "patches") -> Slot:
        """The buffers of a bucket, a number of frames, and what they are given as; made the first time."""
        key = (bucket, batch, frames)
        if key not in self._slots:
            self._slots[key] = Slot(self.geometry, *key, self._constants.plain_plan, self._arena)
        return self._slots[key]

    def load(self, slot: Slot, frames: Sequence[Frame], masks: Sequence[BoolMask | None]) -> None:
        """Copy frames to a slot, without waiting for the device.

        What is queued in the current stream later sees them, and what was queued before does not.

        Args:
            slot: of the frames' bucket, number and kind.
            frames: each RGB uint8 (T, patch, patch, 3), in the order of `MixedLayout`, for a slot of patches; else
                (H, W, 3), whose downsampled regions are averaged on the device. Tensors are on the device already.
            masks: of each frame, bool (rows, cols) of regions, True for low resolution; None for none.
        """
        slot.load(frames, [mask_plan(self.geometry, mask, slot.bucket) for mask in masks])

    @torch.no_grad()
    def run(self, slot: Slot, restoration_point: int) -> Tensor:
        """Queue the kernels that map the frames in a slot to features of full resolution; nothing waits for the device.

        A CUDA graph of this call holds for every mask of the slot's bucket.

        Args:
            slot: with frames loaded.
            restoration_point: 0 to N, see `ViT.forward_patches`; without effect in the bucket `PLAIN`.

        Returns:
            float32 (B, C, rows, cols), channels last in memory.
        """
        with _own_arithmetic(self._weights.device):
            plain = self._constants.plain_plan._replace(batch=slot.batch)
            if slot.bucket == PLAIN or restoration_point == 0:
                x, y = self._embed(self._full_pixels(slot, plain), plain)
                first = 0
            else:
                x, y = self._embed(self._pixels(slot, self._weights.dtype, self._weights.stem.order), slot.plan)
                first = self._weights.config.global_blocks[restoration_point - 1]
                self._run_blocks(x, y, slot.plan, range(first))
                x, y = self._restore(x, slot.plan, plain, first)
            self._run_blocks(x, y, plain, range(first, len(self._weights.blocks)))
            full = self.geometry.full
            features = x.unflatten(0, (slot.batch, -1))[:, : self.geometry.patches]
            return features.unflatten(1, (full.rows, full.cols)).permute(0, 3, 1, 2)

    def _pixels(self, slot: Slot, dtype: torch.dtype, order: Tensor) -> Tensor:
        """Normalised pixels (B * tokens, patch * patch * 3) of the tokens of a slot."""
        pixels = self._empty(slot.plan, len(order), dtype)
        data, plan = slot.data, slot.plan
        frame_pixels(data, slot.frames, plan, self.geometry, self._scale, order, self._settings, pixels)
        return pixels

    def _full_pixels(self, slot: Slot, plain: DevicePlan) -> Tensor:
        """The same at full resolution, low-resolution pixels enlarged."""
        order = self._weights.stem.order
        if slot.bucket == PLAIN:
            return self._pixels(slot, self._weights.dtype, order)
        mixed = self._pixels(slot, torch.float32, self._constants.natural_order)
        pixels = self._empty(plain, len(order), self._weights.dtype)
        restored_pixels(mixed, slot.plan, self.geometry, plain, order, self._settings, pixels)
        return pixels

    def _embed(self, pixels: Tensor, plan: DevicePlan) -> tuple[Tensor, Tensor]:
        """Tokens x, float32 (B * tokens, C), with their positions, and the same normalised for the first block."""
        x, y = self._residual(plan)
        embedded, norm = self._weights.stem(pixels), self._weights.blocks[0].norm1
        embed_norm(self._constants.positions, embedded, plan, norm, self._settings, x, y)
        return x, y

    def _restore(self, tokens: Tensor, plan: DevicePlan, plain: DevicePlan, first: int) -> tuple[Tensor, Tensor]:
        """The same as of `_embed` for tokens (B * tokens, C) that are restored to full resolution before a block."""
        x, y = self._residual(plain)
        norm = self._weights.blocks[first].norm1
        restore_norm(tokens, plan, self.geometry, plain, norm, self._settings, x, y)
        return x, y

    def _run_blocks(self, x: Tensor, y: Tensor, plan: DevicePlan, indices: range) -> None:
        """Run blocks on tokens x and their norm y, both (B * tokens, C), in place."""
        blocks = self._weights.blocks
        attended = torch.zeros_like(y)  # rows that are in no window have to be finite
        terms = self._terms(plan)
        for index in indices:
            block = blocks[index]
            self._attend(index, block.qkv(y), plan, terms, attended)
            add_norm(x, block.proj(attended), block.norm2, plan, self._settings, y)
            following = blocks[index + 1].norm1 if index + 1 in indices else None
            add_norm(x, self._mlp(block, y), following, plan, self._settings, y)

    def _attend(self, index: int, qkv: Tensor, plan: DevicePlan, terms: Tensor, out: Tensor) -> None:
        """Attention of a block: queries, keys and values (B * tokens, 3C) to what they attend to, `out`."""
        block, heads, settings = self._weights.blocks[index], self._weights.config.num_heads, self._settings
        if block.windowed:
            window_attention(qkv, block.window_table, plan, self.geometry, heads, settings, out)
            return
        tables = self._constants.relative[index]
        if plan.plain:
            plain_attention(qkv, tables, plan, self.geometry, heads, settings, terms, out)
        else:
            mixed_attention(qkv, tables, self._constants.patterns, plan, self.geometry, heads, settings, terms, out)

    def _mlp(self, block: BlockWeights, y: Tensor) -> Tensor:
        """The MLP of a block, whose GELU is part of a kernel where one has it."""
        fc1, fc2 = block.fc1, block.fc2
        if isinstance(fc2, FusedInt8Linear):
            return fc2(fc1(y), gelu=True)
        if self._gelu == "exact":
            return fc2(F.gelu(fc1(y)))
        if y.device.type == "cuda" and isinstance(fc1, Linear):
            return fc2(torch.ops.aten._addmm_activation(fc1.bias, y, fc1.weight.t(), use_gelu=True))
        return fc2(F.gelu(fc1(y), approximate="tanh"))

    def _residual(self, plan: DevicePlan) -> tuple[Tensor, Tensor]:
        width = self._weights.config.embed_dim
        return self._empty(plan, width, torch.float32), self._empty(plan, width, self._weights.dtype)

    def _terms(self, plan: DevicePlan) -> Tensor:
        """Memory for the terms of relative positions in a global block."""
        config, geometry = self._weights.config, self.geometry
        each = geometry.full.rows + geometry.line.stride if plan.plain else geometry.coordinates + 1
        return self._empty(plan, config.relative_positions * config.num_heads * each, self._weights.dtype).flatten()

    def _empty(self, plan: DevicePlan, width: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(plan.batch * plan.tokens, width, dtype=dtype, device=self._weights.device)


@contextlib.contextmanager
def _own_arithmetic(device: torch.device) -> Iterator[None]:
    """Kernels run on this device, in the types that they are given."""
    with torch.autocast(device.type, enabled=False), on_device(device):
        yield


@torch.inference_mode(False)
@torch.no_grad()
def _constants(weights: FusedWeights, geometry: FrameGeometry) -> Constants:
    device, grid = weights.device, geometry.grid
    fine = weights.positions(geometry.full.rows, geometry.full.cols).detach().float()
    low = fine.unflatten(1, (-1, grid.factor)).unflatten(0, (-1, grid.factor)).mean(dim=(1, 3))
    plan = torch.from_numpy(mask_plan(geometry, None, PLAIN).copy()).to(device)
    values = 3 * grid.patch_px**2
    return Constants(
        positions=torch.cat([fine.flatten(0, 1), low.flatten(0, 1)]),
        relative={index: _relative(weights, index, geometry) for index in weights.config.global_blocks},
        patterns=torch.from_numpy(block_patterns(geometry.block_keys)).to(device, weights.dtype),
        natural_order=torch.arange(values, dtype=torch.int32, device=device),
        plain_plan=DevicePlan.of(plan, plan_sections(geometry, PLAIN), 0, 1),
    )


def _relative(weights: FusedWeights, index: int, geometry: FrameGeometry) -> tuple[Tensor, Tensor] | None:
    tables = weights.blocks[index].relative
    if tables is None:
        return None
    by_row, by_col = (
        distance_tables(relative_table(table, length), geometry.grid.factor).to(weights.dtype)
        for table, length in zip(tables, (geometry.full.rows, geometry.full.cols), strict=True)
    )
    return by_row, by_col
