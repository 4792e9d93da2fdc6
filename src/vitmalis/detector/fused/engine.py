"""A detector on the fast path: bytes in, boxes out, and in between launches of kernels that nothing waits for."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.cached_tokens import CachedTokens
from vitmalis.detector.detector import Detector, Pixels
from vitmalis.detector.devices import on_device
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.flops import linear_flops
from vitmalis.detector.fused.backbone import FusedBackbone
from vitmalis.detector.fused.batches import launches
from vitmalis.detector.fused.fcos_head import FusedFcosHead
from vitmalis.detector.fused.graphs import GraphCache
from vitmalis.detector.fused.preparation import LaunchKind, launch_kinds
from vitmalis.detector.fused.pyramid import FusedPyramid
from vitmalis.detector.fused.rcnn_head import FusedRcnnHead
from vitmalis.detector.fused.selection import COLUMNS, unpacked
from vitmalis.detector.fused.slots import Slot
from vitmalis.detector.fused.weights import FusedWeights
from vitmalis.detector.precision import PRECISIONS, arithmetic, fp32_products
from vitmalis.detector.pyramid import ViTDetBackbone
from vitmalis.detector.rcnn import RcnnDetector
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.types import BoolMask, Detections

MAX_FRAME_SIZES = 4
"""Most frame sizes whose buffers are kept; those of the least recently used one are freed."""

MAX_GRAPHS = 128
"""Most CUDA graphs, one for each frame size, batch, bucket of token counts, kind of pixels and restoration point.

Single frames of 1920x1080 have 126: 25 buckets at five points, and no mask.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameSize:
    """Buffers of frames of one size (height, width); `host` is where their boxes arrive, pinned for a GPU."""

    size: tuple[int, int]
    backbone: FusedBackbone
    host: Tensor


class FusedDetector(Detector):
    """A built-in model as CUDA graphs: one for each bucket of token counts and restoration point serves all masks.

    Products run in the precision's type with weights that are cast once; norms, residual sums and boxes are fp32. The
    mask head runs eagerly, on the boxes that were found. What else the fast path cannot do runs eagerly and is logged
    once.

    Args:
        model: with an FCOS or R-CNN head.
        weights_sha256, metadata, device, precision: as of `Detector`.
    """

    engine = "fused"
    batches_any_masks = True

    def __init__(
        self,
        model: DetectionModel,
        *,
        weights_sha256: str,
        metadata: dict[str, Any] | None = None,
        device: str = "cuda",
        precision: str = "fp32",
    ) -> None:
        super().__init__(model, weights_sha256=weights_sha256, metadata=metadata, device=device, precision=precision)
        dtype, backbone = PRECISIONS[precision], model.backbone
        assert isinstance(model, FcosDetector | RcnnDetector)
        assert isinstance(backbone, ViTDetBackbone)
        self._weights = FusedWeights(backbone.vit, dtype)
        self._pyramid = FusedPyramid(backbone, dtype)
        self._head = _fused_head(model, dtype)
        self._places = model.head_config.max_detections
        self._graphs = GraphCache(self.device, MAX_GRAPHS)
        self._sizes: OrderedDict[tuple[int, int], FrameSize] = OrderedDict()
        self._logged: set[str] = set()

    def _detect_images(
        self, images: Sequence[Pixels], downsample_mask: BoolMask | None, restoration_point: int
    ) -> list[Detections]:
        if len({tuple(image.shape) for image in images}) != 1:
            return super()._detect_images(images, downsample_mask, restoration_point)  # which says what is wrong
        self._model.backbone.vit.check_point(restoration_point)
        height, width = images[0].shape[:2]
        frames = self._frame_size(self.config.region_grid(height, width), len(images))
        slot = frames.backbone.slot(frames.backbone.bucket(downsample_mask), len(images), "images")
        frames.backbone.load(slot, images, [downsample_mask] * len(images))
        return self._detect_in(frames, slot, restoration_point)

    def _detect_patches(
        self, patches: Sequence[Pixels], grid: RegionGrid, masks: Sequence[BoolMask], restoration_point: int
    ) -> list[Detections]:
        self._model.backbone.vit.check_point(restoration_point)
        frames = self._frame_size(grid, len(masks))
        buckets = [frames.backbone.bucket(mask) for mask in masks]
        found: dict[int, Detections] = {}
        for places in launches(buckets, self._padding_flops(restoration_point)):
            slot = frames.backbone.slot(buckets[places[0]], len(places), "patches")
            frames.backbone.load(slot, [patches[place] for place in places], [masks[place] for place in places])
            found.update(zip(places, self._detect_in(frames, slot, restoration_point), strict=True))
        return [found[place] for place in range(len(masks))]

    def _padding_flops(self, restoration_point: int) -> int:
        """Operations that a token of padding costs: those of linear layers before full resolution comes back."""
        config = self._model.backbone.vit.config
        blocks = config.global_blocks[restoration_point - 1] if restoration_point else 0
        return blocks * linear_flops(config)

    def detect_cached(
        self,
        pixels: Pixels,
        image_size: tuple[int, int],
        regions: AnyTreatments | None,
        restoration_point: int,
        earlier: CachedTokens | None = None,
    ) -> tuple[Detections, CachedTokens]:
        """`Detector.detect_cached`, which runs eagerly."""
        self._log_once("frames whose tokens are cached run eagerly")
        return super().detect_cached(pixels, image_size, regions, restoration_point, earlier)

    def preparations(self, image_size: tuple[int, int], max_batch: int) -> list[Callable[[], None]]:
        """Steps that make buffers, kernels and CUDA graphs for frames of a size, most needed first.

        They leave other frame sizes their buffers and graphs: there are as many as there is room for, none where the
        buffers of `MAX_FRAME_SIZES` are made.

        Args:
            image_size: (height, width) of the frames.
            max_batch: most frames of a batch.
        """
        grid = self.config.region_grid(*image_size)
        if image_size not in self._sizes and len(self._sizes) == MAX_FRAME_SIZES:
            return []
        frames = self._frame_size(grid, max_batch)
        kinds = launch_kinds(frames.backbone.buckets(), self.geometry.restoration_points, max_batch)
        missing = [kind for kind in kinds if (image_size, *kind) not in self._graphs]
        return [partial(self._prepare, grid, max_batch, kind) for kind in missing[: self._graphs.room]]

    @torch.inference_mode()
    def _prepare(self, grid: RegionGrid, max_batch: int, kind: LaunchKind) -> None:
        """Detect in blank frames; all regions are low in them, which fits every bucket."""
        frames = self._frame_size(grid, max_batch)
        mask = np.ones(grid.shape, np.bool_)
        shape: tuple[int, ...] = (grid.height_px, grid.width_px, 3)
        if kind.frames == "patches":
            shape = (grid.tokens(mask), grid.patch_px, grid.patch_px, 3)
        slot = frames.backbone.slot(kind.bucket, kind.batch, kind.frames)
        masks = [mask if kind.bucket else None] * kind.batch
        frames.backbone.load(slot, [np.zeros(shape, np.uint8)] * kind.batch, masks)
        self._detect_in(frames, slot, kind.point)

    def _detect_in(self, frames: FrameSize, slot: Slot, restoration_point: int) -> list[Detections]:
        """Detect in the frames that a slot holds."""
        point = restoration_point if slot.bucket else 0  # without effect where nothing is downsampled

        def launch() -> list[Tensor]:
            levels = self._pyramid(frames.backbone.run(slot, point))
            return [self._head(levels, frames.size), *([] if self._model.mask_branch is None else levels)]

        with on_device(self.device), fp32_products(self._precision):  # Triton launches on the current device
            kind = LaunchKind(slot.batch, slot.bucket, slot.frames, point)
            found, *levels = self._graphs.run((frames.size, *kind), launch)
        host = frames.host[: slot.batch]
        host.copy_(found, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        detections = [unpacked(own, self.config.classes) for own in host.numpy()]
        with arithmetic(self.device, self._precision):
            return self._model.with_masks([level.permute(0, 3, 1, 2) for level in levels], detections)

    def _frame_size(self, grid: RegionGrid, batch: int) -> FrameSize:
        """The buffers of a frame size for at least `batch` frames, made the first time."""
        size = grid.height_px, grid.width_px
        if size in self._sizes and len(self._sizes[size].host) >= batch:
            self._sizes.move_to_end(size)
            return self._sizes[size]
        if size in self._sizes or len(self._sizes) == MAX_FRAME_SIZES:
            self._free(size if size in self._sizes else next(iter(self._sizes)))
        with torch.inference_mode(False):
            backbone = FusedBackbone(self._weights, grid, self.config.pixel_mean, self.config.pixel_std, batch=batch)
            host = torch.empty(batch, self._places, COLUMNS, pin_memory=self.device.type == "cuda")
        self._sizes[size] = FrameSize(size, backbone, host)
        return self._sizes[size]

    def _free(self, size: tuple[int, int]) -> None:
        self._graphs.drop(lambda key: key[0] == size)
        del self._sizes[size]

    def _log_once(self, reason: str) -> None:
        if reason not in self._logged:
            self._logged.add(reason)
            _log.warning("%s: %s", self.name, reason)


def _fused_head(model: FcosDetector | RcnnDetector, dtype: torch.dtype) -> FusedFcosHead | FusedRcnnHead:
    return FusedFcosHead(model, dtype) if isinstance(model, FcosDetector) else FusedRcnnHead(model, dtype)
