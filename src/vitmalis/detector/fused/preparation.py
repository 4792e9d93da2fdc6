"""The launches that frames of a size can need; the CUDA graph of each can be made before such frames come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vitmalis.detector.fused.plan import PLAIN
from vitmalis.detector.fused.slots import Frames


class LaunchKind(NamedTuple):
    """What a CUDA graph of a frame size depends on.

    Attributes:
        batch: number of frames.
        bucket: tokens of a frame, rounded up, or `PLAIN`.
        frames: what they are given as.
        point: restoration point; 0 in the bucket `PLAIN`.
    """

    batch: int
    bucket: int
    frames: Frames
    point: int


def launch_kinds(buckets: Sequence[int], points: int, max_batch: int) -> list[LaunchKind]:
    """The launches that a server's frames can need, most likely needed ones first.

    Single frames come before batches, frames without downsampled regions before others, and numbers of tokens in the
    middle before few and many. Of each number of tokens all restoration points follow each other, so that a beginning
    of the list already needs every kernel.

    Args:
        buckets: of all masks, see `plan.mask_buckets`.
        points: the largest restoration point.
        max_batch: most frames of a batch.
    """
    middle = (buckets[0] + buckets[-1]) / 2
    from_middle = sorted(buckets, key=lambda bucket: abs(bucket - middle))
    kinds = []
    for batch in range(1, max_batch + 1):
        kinds.append(LaunchKind(batch, PLAIN, "images", 0))
        for bucket in from_middle:
            kinds += [LaunchKind(batch, bucket, "patches", point) for point in range(points, -1, -1)]
    return kinds
