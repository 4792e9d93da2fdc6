"""The base class of detector models: preprocessing, mixed-resolution backbone, and an abstract head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vitmalis.detector.batched_layout import Mixed
from vitmalis.detector.cached_tokens import CachedTokens
from vitmalis.detector.config import ModelConfig
from vitmalis.detector.devices import constant
from vitmalis.detector.mask_head import MaskHead
from vitmalis.detector.mixed import MixedLayout, mixed_layout
from vitmalis.detector.postprocess import pad_to_multiple
from vitmalis.detector.pyramid import Backbone
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Detections


class DetectionModel(nn.Module, ABC):
    """A backbone with normalisation and padding before it; subclasses add a head."""

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise RGB images (B, 3, H, W) of range 0..255, then pad with zeros to the multiple the model needs."""
        mean, std = (constant(v, images).view(3, 1, 1) for v in (self.config.pixel_mean, self.config.pixel_std))
        return pad_to_multiple((images - mean) / std, self.config.divisor_px)

    def prepare_patches(self, patches: Tensor, layout: Mixed) -> Tensor:
        """Normalise RGB patches (B, T, patch, patch, 3) of range 0..255; pixels beyond the frame become zero."""
        mean, std = (constant(v, patches) for v in (self.config.pixel_mean, self.config.pixel_std))
        return (patches - mean) / std * layout.inside()[..., None]

    def layout(self, image_size: tuple[int, int], downsample_mask: BoolMask | None) -> MixedLayout | None:
        """The layout of images (height, width) unpadded under a mask of their regions; None if no region is low.

        Raises:
            UserError: the mask is not of these regions.
        """
        if downsample_mask is None:
            return None
        grid = self.config.region_grid(*image_size)
        if not grid.check(downsample_mask).any():
            return None
        return mixed_layout(grid, downsample_mask, next(self.parameters()).device)

    @abstractmethod
    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect objects in pyramid levels, each (B, channels, H_l, W_l), of images (height, width) before padding."""

    @property
    def mask_branch(self) -> MaskHead | None:
        """The mask head; None in a model that finds boxes only."""
        return None

    def with_masks(self, levels: Sequence[Tensor], found: list[Detections]) -> list[Detections]:
        """The detections in pyramid levels, each (B, C, H_l, W_l), with their masks if the model has a mask head."""
        return found if self.mask_branch is None else self.mask_branch.add_masks(levels, found)

    def predict(
        self, images: Tensor, downsample_mask: BoolMask | None = None, restoration_point: int = 0
    ) -> list[Detections]:
        """Detect objects in images of which some regions are downsampled.

        Args:
            images: RGB float (B, 3, H, W) of range 0..255 and any size.
            downsample_mask: bool (rows, cols) of `DetectorConfig.region_grid`, the same for all images; None for none.
            restoration_point: 0 to N, see `ViT.forward_patches`.

        Raises:
            UserError: the mask or the restoration point does not fit.
        """
        size = (images.shape[2], images.shape[3])
        levels = self.backbone(self.prepare(images), self.layout(size, downsample_mask), restoration_point)
        return self.detect_in(levels, size)

    def predict_patches(self, patches: Tensor, layout: Mixed, restoration_point: int) -> list[Detections]:
        """Detect objects in frames that are given as patches of two resolutions.

        Args:
            patches: RGB float (B, T, patch, patch, 3) of range 0..255, in the order of the layout.
            layout: which regions are downsampled; a `MixedBatch` where they differ between frames.
            restoration_point: 0 to N, see `ViT.forward_patches`.

        Raises:
            UserError: the layout or the restoration point does not fit.
        """
        features = self.backbone.net.forward_patches(self.prepare_patches(patches, layout), layout, restoration_point)
        return self.detect_in(self.backbone.pyramid(features), (layout.grid.height_px, layout.grid.width_px))

    def predict_cached(
        self,
        pixels: Tensor,
        grid: RegionGrid,
        layout: MixedLayout | None,
        restoration_point: int,
        earlier: CachedTokens | None = None,
    ) -> tuple[list[Detections], CachedTokens]:
        """Detect objects in a frame, and return its tokens at a restoration point for cached regions of a later one.

        Args:
            pixels: RGB float of range 0..255: an image (1, 3, H, W), or with a layout patches (1, T, patch, patch, 3).
            grid: geometry of the frame.
            layout: how its regions are treated; None if all are full.
            restoration_point: 1 to N.
            earlier: tokens that cached regions take theirs from.

        Raises:
            UserError: there is no such restoration point, the earlier tokens do not fit or are missing, or the
                transformer is another library's.
        """
        net = self.backbone.net
        if not isinstance(net, ViT):
            raise UserError(f"model '{self.config.name}' is another library's and caches no tokens")
        net.check_point(restoration_point)
        if restoration_point == 0:
            raise UserError("tokens are cached where resolution is restored: choose a restoration point of at least 1")
        if earlier is not None:
            earlier.check(grid, restoration_point)
        before = None if earlier is None else earlier.tokens[None]
        if layout is None:
            tokens = net.plain_tokens(self.prepare(pixels), restoration_point)
        else:
            tokens = net.restored_tokens(self.prepare_patches(pixels, layout), layout, restoration_point, before)
        features = net.resume(tokens, grid, restoration_point)
        found = self.detect_in(self.backbone.pyramid(features), (grid.height_px, grid.width_px))
        return found, CachedTokens(grid, restoration_point, tokens[0])
