"""Detectors of detectron2 at mixed resolution: its transformer through the adapter, its own pyramid and heads.

A LazyConfig file is a Python program that runs when it is read, so give only files that you trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitmalis.detector.adapters.model import MixedResolutionViT
from vitmalis.detector.adapters.parts import Foreign
from vitmalis.detector.adapters.wrap import wrap
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.checkpoint import load_checkpoint, load_into
from vitmalis.detector.config import AdaptedConfig
from vitmalis.detector.mask_head import as_masks
from vitmalis.detector.pyramid import Backbone
from vitmalis.errors import UserError
from vitmalis.fingerprint import digest
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.types import COCO_CLASSES, Detections

NAME = "detectron2"


class Images(NamedTuple):
    """What detectron2's proposal generators and heads read of an `ImageList`.

    Attributes:
        tensor: (B, 3, H, W), normalised and padded.
        image_sizes: B times (height, width) before padding.
    """

    tensor: Tensor | None
    image_sizes: list[tuple[int, int]]


class GivenFeatures(nn.Module):
    """In the place of a transformer under detectron2's pyramid: hands on the features that it is given."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Name the features (B, C, H, W) as the transformer's output."""
        return {self._name: features}


class Detectron2Backbone(Backbone):
    """A `ViT` of detectron2 under its `SimpleFeaturePyramid`.

    Attributes:
        level_names: detectron2's names of the levels, finest first.
    """

    def __init__(self, net: MixedResolutionViT, pyramid: Foreign) -> None:
        super().__init__()
        self.net = net
        pyramid.net = GivenFeatures(pyramid.in_feature)
        self.feature_pyramid = pyramid
        self.level_names: Sequence[str] = tuple(pyramid._out_features)

    def pyramid(self, features: Tensor) -> list[Tensor]:
        """Map features (B, C, H, W) to the levels of detectron2's pyramid, each (B, channels, H_l, W_l)."""
        levels = self.feature_pyramid(features)
        return [levels[name] for name in self.level_names]


class Detectron2Detector(DetectionModel):
    """A `GeneralizedRCNN` of detectron2 on a simple feature pyramid."""

    backbone: Detectron2Backbone

    def __init__(self, config: AdaptedConfig, backbone: Detectron2Backbone, model: Foreign) -> None:
        super().__init__(config, backbone)
        self.proposal_generator = model.proposal_generator
        self.roi_heads = model.roi_heads
        self.roi_heads.mask_on = config.mask_head  # boxes do not depend on it

    def detect_in(self, levels: Sequence[Tensor], image_size: tuple[int, int]) -> list[Detections]:
        """Detect with detectron2's heads; see `DetectionModel.detect_in`.

        They run in fp32, because detectron2's RoIAlign rounds boxes to the precision of the features.
        """
        features = {name: level.float() for name, level in zip(self.backbone.level_names, levels, strict=True)}
        images = Images(None, [image_size] * len(levels[0]))
        with torch.autocast(levels[0].device.type, enabled=False):
            proposals, _ = self.proposal_generator(images, features, None)
            found, _ = self.roi_heads(images, features, proposals, None)
        return [as_detections(instances) for instances in found]


def as_detections(instances: Foreign) -> Detections:
    """Convert the `Instances` of one image, best first."""
    columns = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
    boxes, scores, labels = (column.detach().cpu().numpy() for column in columns)
    masks = getattr(instances, "pred_masks", None)  # absent where the mask head does not run
    return Detections.of(boxes, scores, labels, None if masks is None else as_masks(resized_masks(masks)))


def resized_masks(probabilities: Tensor) -> Tensor:
    """Masks (P, 28, 28) of those of a mask head (P, 1, rows, cols), which may be configured to have another size."""
    size = (MASK_SIDE, MASK_SIDE)
    same = probabilities.shape[-2:] == size
    return (probabilities if same else F.interpolate(probabilities, size, mode="bilinear"))[:, 0]


def detectron2_detector(
    config_file: Path,
    weights_file: Path | None = None,
    window: int | None = None,
    downsampling_factor: int = 2,
    masks: bool = False,
) -> Detectron2Detector:
    """Make a detector from a LazyConfig file of detectron2.

    Args:
        config_file: defines `model`, as those in detectron2's `projects/ViTDet/configs` do.
        weights_file: as detectron2 publishes or saves them; None for random weights.
        window: side of attention windows in tokens; None for the model's own.
        downsampling_factor: d, how much smaller a downsampled region is, along each axis.
        masks: whether its mask head runs, too.

    Raises:
        UserError: detectron2 is not installed, the file defines no model of ViTDet's structure or none with a mask head
            where that is to run, or weights do not fit.
    """
    description, model = read_model(config_file)
    if weights_file is not None:
        state, _ = load_checkpoint(weights_file)
        load_into(model, state, str(weights_file))
    return adapted_detector(model, description, window, downsampling_factor, masks)


def read_model(config_file: Path) -> tuple[Any, nn.Module]:
    """Read the node `model` of a LazyConfig file, and make the model with weights that are the same in every process.

    Raises:
        UserError: detectron2 is not installed, there is no such file, or it defines no model.
    """
    try:
        from detectron2.config import LazyConfig, instantiate
    except ImportError as error:
        raise UserError(
            f"model.source=detectron2 needs detectron2, which cannot be imported here ({error}); install it with "
            "pip install 'vitmalis[detectron2]' (built from its repository, with a C++ compiler)"
        ) from error
    if not config_file.is_file():
        raise UserError(f"model.config={config_file}: there is no such file; give a LazyConfig file of detectron2")
    description = LazyConfig.load(str(config_file)).get("model")
    if description is None:
        raise UserError(f"model.config={config_file}: it defines no 'model'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return description, instantiate(description)


def adapted_detector(
    model: Foreign,
    description: Any,
    window: int | None = None,
    downsampling_factor: int = 2,
    masks: bool = False,
) -> Detectron2Detector:
    """Give mixed resolution to a model of detectron2 that has its weights.

    Args:
        model: a `GeneralizedRCNN`; its parts move to the detector.
        description: what the model was made from, for its `model_id`.
        window, downsampling_factor, masks: see `detectron2_detector`.

    Raises:
        UserError: it is not of ViTDet's structure, its classes are not COCO's, or it has no mask head that could run.
    """
    for path in ("backbone.net", "backbone.in_feature", "proposal_generator", "roi_heads", "pixel_mean", "pixel_std"):
        if not _has(model, path):
            raise UserError(
                f"{type(model).__name__} has no '{path}': mixed resolution needs a GeneralizedRCNN on a "
                "SimpleFeaturePyramid"
            )
    if model.roi_heads.num_classes != len(COCO_CLASSES):
        raise UserError(
            f"the model has {model.roi_heads.num_classes} classes, but only models of COCO's {len(COCO_CLASSES)} "
            "classes can be served"
        )
    if model.input_format != "RGB":
        raise UserError(f"the model takes {model.input_format} images, but frames are RGB")
    if masks and not model.roi_heads.mask_on:
        raise UserError("model.task=instances: the model of model.config has no mask head; use model.task=boxes")
    net = wrap(model.eval().backbone.net, window=window, downsampling_factor=downsampling_factor)
    red, green, blue = model.pixel_mean.flatten().tolist()
    red_std, green_std, blue_std = model.pixel_std.flatten().tolist()
    config = AdaptedConfig(
        name=NAME,
        source="detectron2",
        architecture=digest(plain_values(description)),
        geometry=net.geometry,
        pixel_mean=(red, green, blue),
        pixel_std=(red_std, green_std, blue_std),
        mask_head=masks,
    )
    return Detectron2Detector(config, Detectron2Backbone(net, model.backbone), model)


def _has(module: Foreign, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(module, name):
            return False
        module = getattr(module, name)
    return True


def plain_values(node: Any) -> Any:
    """A node of a LazyConfig as JSON can hold it, the same in every process: functions and classes by their names."""
    if isinstance(node, Mapping):
        return {str(key): plain_values(node[key]) for key in sorted(node, key=str)}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [plain_values(value) for value in node]
    if node is None or isinstance(node, str | int | float):
        return node
    name = getattr(node, "__qualname__", None)
    return repr(node) if name is None else f"{node.__module__}.{name}"
