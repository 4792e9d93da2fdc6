"""A detector ready to use: a named model with its weights, from RGB images to boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.base_detector import BaseDetector
from vitmalis.detector.batched_layout import MixedBatch
from vitmalis.detector.cached_tokens import CachedTokens
from vitmalis.detector.config import RANDOM, AdaptedConfig, ModelConfig
from vitmalis.detector.devices import checked_device
from vitmalis.detector.execution import prepare_transformer
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.model_zoo import PUBLISHED_WEIGHTS, fetched_weights, is_url
from vitmalis.detector.precision import arithmetic, checked_precision
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError
from vitmalis.fingerprint import digest
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.types import COCO_CLASSES, BoolMask, Detections

Pixels = NDArray[np.uint8] | Tensor
"""Bytes on the host, or on the device where a decoder left them."""

PREPROCESSING_VERSION = 1
"""Version of the preprocessing, part of every `model_id`: raised when the same image becomes other numbers."""

_BYTES = (np.dtype(np.uint8), torch.uint8)

WEIGHTS = Path(str(files("vitmalis.detector"))) / "weights"
"""The folder of the weights that come with the package."""

EMBEDDED_WEIGHTS = {"vitdet_tiny": "vitdet_tiny.pt"}
"""Model -> file of its weights in the package."""

EMBEDDED_MASK_HEADS = {"vitdet_tiny": "vitdet_tiny_masks.pt"}
"""Model -> file in the package with the weights of its mask head, which was trained on those of `EMBEDDED_WEIGHTS`."""


class Detector(BaseDetector):
    """A model with its weights, for inference.

    On every device results are complete when a call returns, so that its duration is that of the inference.

    Attributes:
        name: name of the model.
        geometry: geometry of its decision regions, which clients have to know.
        model_id: short hash of everything that its boxes depend on: configuration, weights, precision, preprocessing.
        config: description of the model.
        metadata: facts from its weights file.
        classes: names of the classes that it detects.
        device: where it runs.
        engine: "eager", PyTorch's operators one by one, or "fused", see `fused.engine.FusedDetector`.
    """

    engine = "eager"

    def __init__(
        self,
        model: DetectionModel,
        *,
        weights_sha256: str,
        metadata: dict[str, Any] | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self._precision = checked_precision(precision)
        self.config = model.config
        self.name = model.config.name
        self.geometry = model.config.geometry
        self.metadata = metadata or {}
        self.classes = tuple(COCO_CLASSES[index] for index in model.config.classes)
        self.model_id = model_id(model.config, weights_sha256, precision)
        self.device = checked_device(device)
        self._model = model.to(self.device).eval().requires_grad_(False)
        prepare_transformer(self._model, precision, compiled)

    @property
    def model(self) -> DetectionModel:
        """The network, for those who look at what it computes, or change it."""
        return self._model

    @torch.inference_mode()
    def detect(self, image: Pixels, downsample_mask: BoolMask | None = None, restoration_point: int = 0) -> Detections:
        """Detect objects in one image.

        Args:
            image: RGB uint8 (H, W, 3) of any size.
            downsample_mask: bool (rows, cols) of `config.region_grid(H, W)`, True where resolution is lowered; None
                for nowhere.
            restoration_point: 0 (before the backbone) to N: where full resolution comes back (paper, section III-B).

        Returns:
            Boxes in pixels of this image, best first, with masks if the model finds instances.

        Raises:
            UserError: the image is of another kind, or the mask or restoration point does not fit.
        """
        return self._detect_images([checked_image(image)], downsample_mask, restoration_point)[0]

    @torch.inference_mode()
    def detect_each(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detect objects in several images of one size as one batch, at full resolution."""
        return self._detect_images([checked_image(image) for image in images], None, 0)

    def detect_patches(
        self, patches: Pixels, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        """Detect objects in an image that is given as patches of two resolutions.

        Where the image ends inside a patch of low resolution, `detect` averages over padding, and the sender of the
        patches perhaps did not; apart from that, the same pixels give the same boxes.

        Args:
            patches: RGB uint8 (T, patch, patch, 3), in the order of `MixedLayout`: what `codec.packing.unpack` gives.
            image_size: (height, width) of the image.
            downsample_mask: bool (rows, cols) of `config.region_grid(height, width)`.
            restoration_point: 0 (before the backbone) to N: where full resolution comes back (paper, section III-B).

        Returns:
            Boxes in pixels of the image, best first.

        Raises:
            UserError: the patches are not those of the mask, or the mask or restoration point does not fit.
        """
        return self.detect_patches_each([patches], image_size, [downsample_mask], restoration_point)[0]

    @torch.inference_mode()
    def detect_patches_each(
        self,
        patches: Sequence[Pixels],
        image_size: tuple[int, int],
        downsample_masks: Sequence[BoolMask],
        restoration_point: int,
    ) -> list[Detections]:
        """`detect_patches` for several images of one size as one batch.

        Raises:
            UserError: as `detect_patches`, or without `batches_any_masks` the numbers of patches differ.
        """
        grid = self.config.region_grid(*image_size)
        for own, mask in zip(patches, downsample_masks, strict=True):
            checked_patches(own, grid, grid.check(mask))
        return self._detect_patches(patches, grid, downsample_masks, restoration_point)

    @property
    def caches_tokens(self) -> bool:
        """Whether `detect_cached` can run the model; another library's transformer it cannot."""
        return isinstance(self._model.backbone.net, ViT)

    @torch.inference_mode()
    def detect_cached(
        self,
        pixels: Pixels,
        image_size: tuple[int, int],
        regions: AnyTreatments | None,
        restoration_point: int,
        earlier: CachedTokens | None = None,
    ) -> tuple[Detections, CachedTokens]:
        """Detect objects in a frame, and return its tokens at a restoration point for cached regions of a later one.

        Without cached regions the boxes are those of `detect_patches`, or of `detect` without regions.

        Args:
            pixels: RGB uint8: an image (H, W, 3), or with `regions` its patches as `codec.packing.unpack` gives them.
            image_size: (height, width) of the image.
            regions: how each is treated, (rows, cols) of `config.region_grid(height, width)`; None if all are full.
            restoration_point: 1 to N: where cached regions come back, and where the frame's own tokens are taken.
            earlier: what an earlier call returned for a frame of this size and restoration point, perhaps `moved`;
                needed where regions are cached.

        Returns:
            Boxes in pixels of the image, best first, and the tokens of the frame.

        Raises:
            UserError: pixels, treatments, restoration point or earlier tokens do not fit, or the model is another
                library's.
        """
        grid = self.config.region_grid(*image_size)
        if regions is None:
            layout, own = None, image_tensor(pixels, self.device)
        else:
            layout = mixed_layout(grid, regions, self.device)
            own = torch.as_tensor(checked_patches(pixels, grid, regions), device=self.device)[None].float()
        with arithmetic(self.device, self._precision):
            (found,), tokens = self._model.predict_cached(own, grid, layout, restoration_point, earlier)
        return found, tokens

    def _detect_images(
        self, images: Sequence[Pixels], downsample_mask: BoolMask | None, restoration_point: int
    ) -> list[Detections]:
        """Detect in images (H, W, 3) of one size, all with the same mask."""
        pixels = torch.cat([image_tensor(image, self.device) for image in images])
        with arithmetic(self.device, self._precision):
            return self._model.predict(pixels, downsample_mask, restoration_point)

    def _detect_patches(
        self, patches: Sequence[Pixels], grid: RegionGrid, masks: Sequence[BoolMask], restoration_point: int
    ) -> list[Detections]:
        """Detect in frames of one size that are given as patches, which are those of the masks."""
        layouts = [mixed_layout(grid, mask, self.device) for mask in masks]
        common = layouts[0] if len(layouts) == 1 else MixedBatch.of(layouts)
        pixels = torch.stack([torch.as_tensor(own, device=self.device) for own in patches]).float()
        with arithmetic(self.device, self._precision):
            return self._model.predict_patches(pixels, common, restoration_point)


def checked_image(image: Pixels) -> Pixels:
    """Check that an image is RGB uint8 (H, W, 3), and return it; raises `UserError` if not."""
    if image.dtype not in _BYTES or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"detector input must be RGB uint8 (height, width, 3), not {image.dtype} {tuple(image.shape)}")
    return image


def checked_patches(patches: Pixels, grid: RegionGrid, regions: AnyTreatments) -> Pixels:
    """Check that patches are those of regions treated so, and return them; raises `UserError` if not."""
    expected = (grid.tokens(regions), grid.patch_px, grid.patch_px, 3)
    if patches.dtype not in _BYTES or tuple(patches.shape) != expected:
        raise UserError(f"detector patches must be RGB uint8 {expected}, not {patches.dtype} {tuple(patches.shape)}")
    return patches


def image_tensor(image: Pixels, device: torch.device | None = None) -> Tensor:
    """Convert an image, RGB uint8 (H, W, 3), to a batch of one on a device: float (1, 3, H, W), 0..255.

    Raises:
        UserError: the image is of another kind.
    """
    checked_image(image)
    # Converted on the device: bytes cross to a GPU faster than floats.
    own = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    return own.to(device).permute(2, 0, 1)[None].float()


def model_id(config: ModelConfig, weights_sha256: str, precision: str) -> str:
    """Twelve hexadecimal digits that change with anything that a model's boxes depend on."""
    facts = msgspec.json.encode([config.identity, weights_sha256, precision, PREPROCESSING_VERSION])
    return hashlib.sha256(facts).hexdigest()[:12]


def weights_path(config: ModelConfig, weights: str | Path | None) -> Path | None:
    """The file with the weights of a model: as given, else inside the package, else downloaded from its publisher.

    Returns:
        None for random weights, which another library's model also has unless a file is given.

    Raises:
        UserError: they have to be downloaded and cannot be, or are not what they were.
    """
    if weights == RANDOM:
        return None
    if isinstance(config, AdaptedConfig):
        if weights is not None and is_url(weights):
            raise UserError(f"model.weights={weights}: give a file for models of {config.source}, not a URL")
        return None if weights is None else Path(weights)
    if weights is None and config.name in EMBEDDED_WEIGHTS:
        return WEIGHTS / EMBEDDED_WEIGHTS[config.name]
    source = PUBLISHED_WEIGHTS[config.name] if weights is None else weights
    return fetched_weights(config, str(source)) if is_url(source) else Path(source)


def weights_files(config: ModelConfig, weights: str | Path | None) -> tuple[Path, ...]:
    """The files that the weights of a model are read from; none for random weights.

    The package has those of a mask head in a file of their own. Other files hold the whole model.

    Raises:
        UserError: see `weights_path`.
    """
    path = weights_path(config, weights)
    if path is None:
        return ()
    if weights is None and config.mask_head and config.name in EMBEDDED_MASK_HEADS:
        return path, WEIGHTS / EMBEDDED_MASK_HEADS[config.name]
    return (path,)


def weights_digest(paths: Sequence[Path]) -> str:
    """SHA-256 of the files of a model's weights, or a name for random ones; raises `UserError` for a missing file."""
    if len(paths) > 1:
        return digest([weights_digest([path]) for path in paths])
    if not paths:
        return RANDOM
    if not paths[0].is_file():
        raise UserError(f"model weights '{paths[0]}' do not exist; give a file as model.weights=/path/to/weights")
    with paths[0].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
