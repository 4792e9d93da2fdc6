"""What every detector model shares: the way in, and the promise to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vitmalis.detector.config import DetectorConfig
from vitmalis.detector.postprocess import pad_to_multiple
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.types import Detections


class DetectionModel(nn.Module, ABC):
    """A ViTDet backbone behind normalisation and padding; subclasses add a head."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ViTDetBackbone(config.vit, config.pyramid)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise RGB images (B, 3, H, W) of range 0..255, then pad with zeros to the multiple the model needs."""
        mean = images.new_tensor(self.config.pixel_mean).view(3, 1, 1)
        std = images.new_tensor(self.config.pixel_std).view(3, 1, 1)
        return pad_to_multiple((images - mean) / std, self.config.divisor_px)

    @abstractmethod
    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect in the levels of the pyramid, each (B, channels, H_l, W_l), of images (height, width) unpadded."""

    def predict(self, images: Tensor) -> list[Detections]:
        """Detect in RGB images float (B, 3, H, W) of range 0..255 and any size."""
        return self.detect_in(self.backbone(self.prepare(images)), (images.shape[2], images.shape[3]))
