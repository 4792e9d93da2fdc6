"""Frames in the memory of a device, which computes training images from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitmalis.errors import UserError
from vitmalis.types import RgbImage
from vitmalis_jobs.training.detection.device_augment import Distortions, Views, cut, distort
from vitmalis_jobs.training.detection.stream import TrainingFrame

log = logging.getLogger(__name__)

LOGGED_FRAMES = 1000
"""Frames between two lines of the log while they are loaded."""


@dataclass(frozen=True)
class DeviceFrames:
    """Frames that a device holds and computes training images from.

    Attributes:
        pixels: uint8 (N, 3, H, W), each frame in the upper left corner.
        sizes: int64 (N, 2), width and height of each frame, pixels.
    """

    pixels: Tensor
    sizes: Tensor

    @classmethod
    def load(cls, frames: Sequence[TrainingFrame], device: torch.device, threads: int) -> DeviceFrames:
        """Decode frames in threads and copy them to a device.

        Raises:
            UserError: the device's memory is too small, or a frame cannot be read.
        """
        sizes = torch.tensor([frame.size for frame in frames])
        width, height = sizes.amax(0).tolist()
        try:
            pixels = torch.zeros((len(frames), 3, height, width), dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError as error:
            needed = len(frames) * 3 * height * width / 2**30
            raise UserError(
                f"{len(frames)} frames need {needed:.1f} GiB of the memory of {device}, which has less: lower "
                "rendered.scenes"
            ) from error
        with ThreadPoolExecutor(threads) as pool:
            for index, image in enumerate(pool.map(_channels_first, frames)):
                pixels[index, :, : image.shape[1], : image.shape[2]] = torch.from_numpy(image).to(device)
                if (index + 1) % LOGGED_FRAMES == 0 or index + 1 == len(frames):
                    log.info("loaded %d of %d frames to %s", index + 1, len(frames), device)
        return cls(pixels, sizes.to(device))

    @property
    def device(self) -> torch.device:
        """Where the frames are, and images are computed."""
        return self.pixels.device

    @torch.no_grad()
    def images(self, indices: Tensor, views: Views, distortions: Distortions, size: tuple[int, int]) -> Tensor:
        """Compute one training image of each chosen frame.

        Args:
            indices: (B,), which frame each is of; like the other arguments in the CPU's memory.
            views, distortions: of the images.
            size: width and height of the images, pixels.

        Returns:
            Whole numbers as float (B, 3, height, width), 0..255.
        """
        chosen = indices.to(self.device, non_blocking=True)
        return distort(cut(self.pixels[chosen], self.sizes[chosen], views, size), distortions)


def _channels_first(frame: TrainingFrame) -> RgbImage:
    """Decode a frame, uint8 (3, height, width)."""
    return np.ascontiguousarray(frame.image().transpose(2, 0, 1))
