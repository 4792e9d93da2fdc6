"""The base class of detectors, from which those of another package derive: boxes in images, with any library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vitmalis.detector.mixed import mixed_layout
from vitmalis.regions.grid import ModelGeometry
from vitmalis.types import BoolMask, Detections


class BaseDetector(ABC):
    """A detector of objects in frames. A subclass needs `detect`.

    Regions of low resolution are enlarged before `detect` sees them, so that every policy works: its offloads are
    smaller, and inference takes as long as that of a whole frame. A model that computes less for fewer tokens overrides
    `detect_patches` and `detect_patches_each`, and says in `geometry` which restoration points it has.

    Attributes:
        name, model_id: of the model with its weights; set where a configuration names the class.
        geometry: of the regions that clients may downsample; restoration points 0 to N, where 0 is before the model.
        device: where it runs, if others have to wait for it; the processor for one whose results are complete when a
            call returns, wherever it computes them.
        engine: a word for the way in which it computes.
        batches_any_masks: whether `detect_patches_each` takes frames of different numbers of patches, as a batch of a
            server may then hold.
        caches_tokens: whether it has `detect_cached`, see `vitmalis.detector.Detector`.
    """

    name: str
    model_id: str
    geometry = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=0)
    device = torch.device("cpu")
    engine = "eager"
    batches_any_masks = False

    @property
    def caches_tokens(self) -> bool:
        """Whether `detect_cached` can run the model."""
        return False

    @abstractmethod
    def detect(self, image: Any) -> Detections:
        """Detect objects in an image, RGB uint8 (H, W, 3) of any size.

        Returns:
            Boxes in pixels of this image and inside it, best first, perhaps with masks; labels are indices of
            `types.COCO_CLASSES`.
        """

    def detect_each(self, images: Sequence[Any]) -> list[Detections]:
        """Detect objects in several images of one size, as a batch where the model has any."""
        return [self.detect(image) for image in images]

    def detect_patches(
        self, patches: Any, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        """Detect objects in an image that is given as patches of two resolutions.

        Args:
            patches: RGB uint8 (T, patch, patch, 3): what `codec.packing.unpack` gives.
            image_size: (height, width) of the image.
            downsample_mask: bool (rows, cols) of the regions of `geometry`, True where resolution is low.
            restoration_point: 0 to N of `geometry`, where full resolution comes back.

        Returns:
            Boxes in pixels of the image, best first.
        """
        height, width = image_size
        layout = mixed_layout(self.geometry.grid(width, height), downsample_mask, torch.device("cpu"))
        pixels = layout.restore_pixels(torch.as_tensor(patches)[None].float())[0, :, :height, :width]
        return self.detect(np.ascontiguousarray(pixels.round().permute(1, 2, 0).to(torch.uint8).numpy()))

    def detect_patches_each(
        self,
        patches: Sequence[Any],
        image_size: tuple[int, int],
        downsample_masks: Sequence[BoolMask],
        restoration_point: int,
    ) -> list[Detections]:
        """`detect_patches` for several images of one size, as a batch where the model has any."""
        return [
            self.detect_patches(own, image_size, mask, restoration_point)
            for own, mask in zip(patches, downsample_masks, strict=True)
        ]

    def content(self) -> str:
        """What boxes depend on besides the class, its options and files that these name: a library's weights."""
        return ""
