"""An anchor-free detector, FCOS (https://arxiv.org/abs/1904.01355), on a ViTDet backbone, with torchvision's head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import AdaptedConfig, FcosConfig, ModelConfig
from vitmalis.detector.fcos_training import BOX_CODER, BatchTargets, HeadOutputs, LevelGrid, fcos_loss
from vitmalis.detector.mask_head import MaskHead
from vitmalis.detector.postprocess import select_detections
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.types import BoolMask, Detections


class FcosDetector(DetectionModel):
    """A transformer under a simple feature pyramid, the FCOS head, and perhaps a mask head."""

    backbone: ViTDetBackbone

    def __init__(self, config: ModelConfig, backbone: ViTDetBackbone, head: FcosConfig) -> None:
        super().__init__(config, backbone)
        self.head = FCOSHead(backbone.channels, 1, len(config.classes), head.tower_convs)
        # The head's ReLU passes no gradient where it starts at or below zero; 4 strides is a usual distance.
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, 4.0)
        self.head_config = head
        self.mask_head = None if isinstance(config, AdaptedConfig) else MaskHead.of(config)

    @property
    def mask_branch(self) -> MaskHead | None:
        """The mask head; None in a model that finds boxes only."""
        return self.mask_head

    def forward(
        self, images: Tensor, downsample_mask: BoolMask | None = None, restoration_point: int = 0
    ) -> HeadOutputs:
        """Map images to the outputs of every cell; arguments as of `predict`."""
        layout = self.layout((images.shape[2], images.shape[3]), downsample_mask)
        return self.head_outputs(self.backbone(self.prepare(images), layout, restoration_point))

    def head_outputs(self, levels: Sequence[Tensor]) -> HeadOutputs:
        """Run the head on the levels of the pyramid, each (B, channels, H_l, W_l)."""
        raw = self.head(levels)
        grids = tuple(
            LevelGrid(level.shape[2], level.shape[3], stride)
            for level, stride in zip(levels, self.backbone.strides, strict=True)
        )
        return HeadOutputs(raw["cls_logits"], raw["bbox_regression"], raw["bbox_ctrness"][..., 0], grids)

    def loss(self, outputs: HeadOutputs, targets: BatchTargets) -> dict[str, Tensor]:
        """Losses of outputs of this model, see `fcos_loss`."""
        return fcos_loss(outputs, targets, self.head_config.centre_radius)

    def decode(self, outputs: HeadOutputs, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Decode the outputs of the head into detections.

        Args:
            outputs: of a batch of B images.
            image_sizes: B times (height, width) before padding.

        Returns:
            B `Detections` with labels of `COCO_CLASSES`, best first.
        """
        cells = outputs.cells
        return [
            self._decode_one(logits.float(), distances.float(), centreness.float(), cells, size)
            for logits, distances, centreness, size in zip(*outputs[:3], image_sizes, strict=True)
        ]

    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect objects in pyramid levels, each (B, channels, H_l, W_l), of images (height, width) before padding."""
        return self.with_masks(levels, self.decode(self.head_outputs(levels), [image_size] * len(levels[0])))

    def _decode_one(
        self, logits: Tensor, distances: Tensor, centreness: Tensor, cells: Tensor, size: tuple[int, int]
    ) -> Detections:
        head = self.head_config
        scores = (logits.sigmoid() * centreness.sigmoid()[:, None]).sqrt()  # (L, classes)
        cell, label = (scores > head.score_threshold).nonzero(as_tuple=True)
        best, order = scores[cell, label].topk(min(head.candidates, len(cell)))
        cell, label = cell[order], label[order]
        return select_detections(
            BOX_CODER.decode(distances[cell], cells[cell]),
            best,
            label,
            image_size=size,
            nms_iou=head.nms_iou,
            max_detections=head.max_detections,
            classes=self.config.classes,
        )
