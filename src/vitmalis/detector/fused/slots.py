"""Static buffers that frames are loaded into, so that a CUDA graph holds for every frame and mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitmalis.detector.fused.geometry import FrameGeometry
from vitmalis.detector.fused.plan import PLAIN, Int32Array, Sections, bucket_tokens, plan_sections, rounded_tokens

Frames = Literal["patches", "images"]
"""What frames are given as: patches of two resolutions, or whole images."""


Frame = NDArray[np.uint8] | Tensor
"""The bytes of a frame, on the host or as a tensor on the device."""


class DevicePlan(NamedTuple):
    """The plans of a batch of frames on the device.

    Attributes:
        counts, cell, patch, token, window, block, coordinate: the parts of the first plan, see `Sections`.
        stride: integers from one plan to the next; 0 where all frames have the same.
        tokens: rows of a frame in all tensors of tokens.
        batch: number of frames.
    """

    counts: Tensor
    cell: Tensor
    patch: Tensor
    token: Tensor
    window: Tensor
    block: Tensor
    coordinate: Tensor
    stride: int
    tokens: int
    batch: int

    @property
    def plain(self) -> bool:
        """Whether no region is downsampled: all frames share one plan."""
        return self.stride == 0

    @classmethod
    def of(cls, buffer: Tensor, sections: Sections, stride: int, batch: int) -> DevicePlan:
        """Name the parts of plans that lie one after the other in a buffer."""
        parts = {
            name: buffer[part.start : part.start + math.prod(part.shape)].view(part.shape)
            for name, part in zip(sections._fields, sections, strict=True)
        }
        return cls(**parts, stride=stride, tokens=sections.cell.shape[0], batch=batch)


class Arena:
    """The memory that frames arrive in, shared by all slots of a frame size, as one batch is computed after the other.

    On a GPU a load is put together in pinned memory and copied to the device on a stream of its own while the frames
    before it are computed, and then, in the stream that computes, to the bytes that kernels read. On a CPU these are
    the same memory.

    Args:
        length: in bytes.
        device: where the kernels run.

    Attributes:
        host: uint8 (length,), where a load is put together.
        device: uint8 (length,), what kernels read; it never moves.
    """

    def __init__(self, length: int, device: torch.device) -> None:
        self.host = self.device = torch.zeros(length, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._streams: Streams | None = None
        if device.type == "cuda":
            self.device = torch.zeros(length, dtype=torch.uint8, device=device)
            self._streams = Streams(self.host, self.device)

    def wait(self) -> None:
        """Wait until the last load has left `host`, which is long before it is computed."""
        if self._streams is not None:
            self._streams.copied.synchronize()

    def send(self, length: int) -> None:
        """Copy the first bytes of `host`; what is queued in the current stream later sees them."""
        if self._streams is not None:
            self._streams.send(length)


class Streams:
    """The copies of an arena on a GPU.

    Attributes:
        copied: event after which `host` may be written again.
    """

    def __init__(self, host: Tensor, device: Tensor) -> None:
        self._host, self._arrival, self._device = host, torch.empty_like(device), device
        self._stream = torch.cuda.Stream(device.device)
        self.copied, self._moved = torch.cuda.Event(), torch.cuda.Event()

    def send(self, length: int) -> None:
        """Copy the first bytes, see `Arena.send`."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._moved)  # `arrival` has been moved on
            self._arrival[:length].copy_(self._host[:length], non_blocking=True)
            self.copied.record(self._stream)
        current = torch.cuda.current_stream(self._device.device)
        current.wait_event(self.copied)
        self._device[:length].copy_(self._arrival[:length])
        self._moved.record(current)


class Slot:
    """Where the frames of a batch lie, for one bucket, number of frames, and kind of them.

    Attributes:
        bucket: tokens of a frame, rounded up, or `PLAIN`.
        batch: number of frames.
        frames: what they are given as.
        plan: of the frames, on the device.
        data: bytes of the frames on the device: uint8 (B, tokens, patch * patch * 3), or (B, H, W, 3) for images.

    Raises:
        ValueError: the arena has no room for so many frames.
    """

    def __init__(
        self, geometry: FrameGeometry, bucket: int, batch: int, frames: Frames, plain_plan: DevicePlan, arena: Arena
    ) -> None:
        self.bucket, self.batch, self.frames = bucket, batch, frames
        sections = plan_sections(geometry, bucket)
        shape = (batch, *_frame_shape(geometry, bucket, frames))
        plans = batch * sections.length if bucket != PLAIN else 0  # all plain frames share one plan
        self._arena, self._length = arena, 4 * plans + math.prod(shape)
        if self._length > len(arena.host):
            raise ValueError(f"a batch of {batch} frames is larger than the backbone was made for")
        self._host_plans = arena.host[: 4 * plans].numpy().view(np.int32).reshape(-1, sections.length)
        self._host_data = arena.host[4 * plans : self._length].view(shape).numpy()
        self.data = arena.device[4 * plans : self._length].view(shape)
        self.plan = plain_plan._replace(batch=batch)
        if bucket != PLAIN:
            buffer = arena.device[: 4 * plans].view(torch.int32)
            self.plan = DevicePlan.of(buffer, sections, sections.length, batch)

    def load(self, frames: Sequence[Frame], plans: Sequence[Int32Array]) -> None:
        """Copy the bytes and plans of a batch to the device, see `FusedBackbone.load`."""
        self._arena.wait()
        if self.bucket != PLAIN:
            for place, plan in zip(self._host_plans, plans, strict=True):
                place[:] = plan
        for place, frame in zip(self._host_data, frames, strict=True):
            if not isinstance(frame, Tensor):
                place[: len(frame)] = frame.reshape(len(frame), *place.shape[1:])
        on_device = all(isinstance(frame, Tensor) for frame in frames)
        self._arena.send(self._host_plans.nbytes if on_device else self._length)
        for target, frame in zip(self.data, frames, strict=True):
            if isinstance(frame, Tensor):
                target[: len(frame)].copy_(frame.reshape(len(frame), *target.shape[1:]))


def _frame_shape(geometry: FrameGeometry, bucket: int, frames: Frames) -> tuple[int, ...]:
    grid = geometry.grid
    if frames == "images":
        return (grid.height_px, grid.width_px, 3)
    return (bucket_tokens(geometry, bucket), 3 * grid.patch_px**2)


def arena_bytes(geometry: FrameGeometry, batch: int) -> int:
    """Bytes that the frames of the largest bucket take."""
    most = rounded_tokens(geometry, geometry.patches)
    data = max(math.prod(_frame_shape(geometry, PLAIN, frames)) for frames in get_args(Frames))
    return batch * (4 * plan_sections(geometry, most).length + data)
