"""Architectures of detectors as plain data, from 3 M to 600 M parameters."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from vitmalis.errors import UserError
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.types import COCO_CLASSES, MAX_FACTOR, MAX_WINDOW

Source = Literal["builtin", "timm", "detectron2", "custom"]
"""Where a model comes from: this package, another library through an adapter, or a class of another package."""

Task = Literal["boxes", "instances"]
"""What a model finds: the boxes of objects, or their boxes and masks (instance segmentation)."""


RANDOM = "random"
"""In the place of a weights file: random weights."""


class VitConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"embed_dim": "width", "num_heads": "heads"}):
    """A plain vision transformer with window attention and a few global blocks.

    Attributes:
        embed_dim: channels of a token; `width` in JSON, as the identities of models were made with.
        depth: number of blocks.
        num_heads: attention heads; `embed_dim` is a multiple of it. `heads` in JSON.
        subsets: N, the blocks fall into N equal subsets; the last block of each attends globally (paper, III-B).
        patch_px: side of a patch.
        window: side of an attention window in tokens.
        stem: "linear" projects whole patches; "hierarchical" in three steps that never look across a patch border.
        position_grid: (rows, cols) of the learned absolute positions, interpolated to any other grid.
        class_position: the table starts with an unused entry for a class token, as MAE's checkpoints have it.
        relative_positions: add decomposed relative positions to every attention.
        relative_grid: side in tokens for which global blocks hold relative positions.
        relative_window: the same for window blocks; 0 means `window`.
    """

    embed_dim: int
    depth: int
    num_heads: int
    subsets: int = 4
    patch_px: int = 16
    window: int = 14
    stem: Literal["linear", "hierarchical"] = "linear"
    position_grid: tuple[int, int] = (14, 14)
    class_position: bool = True
    relative_positions: bool = True
    relative_grid: int = 64
    relative_window: int = 0

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads or self.depth % self.subsets:
            raise UserError(
                f"detector config: embed_dim {self.embed_dim} must be a multiple of num_heads {self.num_heads}, "
                f"and depth {self.depth} of subsets {self.subsets}"
            )

    @property
    def global_blocks(self) -> tuple[int, ...]:
        """Indices of the blocks that attend over the whole frame."""
        per_subset = self.depth // self.subsets
        return tuple(range(per_subset - 1, self.depth, per_subset))


class PyramidConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A simple feature pyramid made from the last map only; one coarser level is added by subsampling.

    Attributes:
        strides: pixels per cell of the levels made by convolution, rising, out of 4, 8, 16, 32.
        channels: channels of every level.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)
    channels: int = 256


class FcosConfig(msgspec.Struct, frozen=True, kw_only=True, tag="fcos"):
    """An anchor-free head: class, centreness and four distances for every cell of every level.

    Attributes:
        tower_convs: 3 x 3 convolutions before the predictions, for each of classification and regression.
        centre_radius: cells within this many strides of an object's centre learn it.
        score_threshold: boxes below it are dropped.
        nms_iou: boxes of one class that overlap a better one by more are dropped.
        candidates: best boxes per image that enter suppression.
        max_detections: best boxes per image that leave it.
    """

    tower_convs: int = 2
    centre_radius: float = 1.5
    score_threshold: float = 0.05
    nms_iou: float = 0.6
    candidates: int = 1000
    max_detections: int = 100


class RcnnConfig(msgspec.Struct, frozen=True, kw_only=True, tag="rcnn"):
    """Detectron2's Mask R-CNN, box branch: region proposals, then classes and boxes of each.

    Attributes:
        anchor_sizes_px: side of the square anchor of each level, finest first.
        aspect_ratios: height / width of the anchors at every cell.
        proposals: best proposals per level that enter, and per image that leave, suppression.
        proposal_nms_iou: overlap above which a proposal gives way to a better one of its level.
        box_convs: channels of the box head's convolutions.
        box_width: channels of its fully connected layer.
        score_threshold, nms_iou, max_detections: as in `FcosConfig`.
    """

    anchor_sizes_px: tuple[int, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 1000
    proposal_nms_iou: float = 0.7
    box_convs: tuple[int, ...] = (256, 256, 256, 256)
    box_width: int = 1024
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


class MaskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Mask R-CNN's mask head: convolutions over the features in each detected box, which end in a mask of 28 x 28.

    Attributes:
        convs: channels of its 3 x 3 convolutions; the transposed one after them has those of the last.
        per_class: whether each class has a mask of its own; otherwise one serves all.
        min_score: detections of a lower score are left with masks that fill their boxes.
    """

    convs: tuple[int, ...] = (256, 256, 256, 256)
    per_class: bool = True
    min_score: float = 0.0


SMALL_MASK_HEAD = MaskConfig(convs=(64, 64, 64), per_class=False, min_score=0.35)
"""The mask head behind an FCOS head, of whose hundred detections most have a score that nobody shows."""


class DetectorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The architecture of a built-in detector.

    Attributes:
        name: how users choose it.
        vit, pyramid, head: its parts.
        mask_head: finds the masks of detected objects; None in a model that finds boxes only.
        classes: for each class of the model the index into `COCO_CLASSES` that it reports.
        downsampling_factor: d, how much smaller a downsampled region is, along each axis.
        pixel_mean, pixel_std: RGB, on the scale 0..255.
    """

    name: str
    vit: VitConfig
    pyramid: PyramidConfig = PyramidConfig()
    head: FcosConfig | RcnnConfig = RcnnConfig()
    mask_head: MaskConfig | None = None
    classes: tuple[int, ...] = tuple(range(len(COCO_CLASSES)))
    downsampling_factor: int = 2
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if not 1 <= self.downsampling_factor <= MAX_FACTOR:
            raise UserError(f"model.downsampling_factor={self.downsampling_factor}: give 1 to {MAX_FACTOR}")

    @property
    def divisor_px(self) -> int:
        """Frames are padded right and bottom to a multiple of this, the side of a low-resolution patch."""
        return self.vit.patch_px * self.downsampling_factor

    def with_geometry(self, window: int | None = None, downsampling_factor: int | None = None) -> DetectorConfig:
        """The same model with other decision regions.

        Weights of the one fit the other: relative positions keep their tables, which are resized when used (upstream's
        `get_rel_pos`). The paper runs weights of window 14 with window 9.

        Args:
            window: w, side of an attention window in tokens; None for the model's own.
            downsampling_factor: d, how much smaller a downsampled region is; None for the model's own.

        Raises:
            UserError: a number is out of range.
        """
        vit = self.vit
        if window not in (None, vit.window):
            held = vit.relative_window or vit.window
            vit = msgspec.structs.replace(vit, window=checked_window(window), relative_window=held)
        factor = self.downsampling_factor if downsampling_factor is None else downsampling_factor
        return msgspec.structs.replace(self, vit=vit, downsampling_factor=factor)

    def with_task(self, task: Task) -> DetectorConfig:
        """The same model for a task: with the mask head that goes with its box head, or without one."""
        of_task = SMALL_MASK_HEAD if isinstance(self.head, FcosConfig) else MaskConfig()
        return msgspec.structs.replace(self, mask_head=of_task if task == "instances" else None)

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that identities of models are made from, in which the padding says the factor."""
        facts = _facts(self)
        renamed = {"downsampling_factor": ("divisor_px", self.divisor_px)}
        return dict(renamed.get(name, (name, value)) for name, value in facts.items())

    @property
    def geometry(self) -> ModelGeometry:
        """Geometry of the decision regions, which clients have to know to offload to this model."""
        return ModelGeometry(self.vit.window, self.downsampling_factor, self.vit.patch_px, self.vit.subsets)

    def region_grid(self, height_px: int, width_px: int) -> RegionGrid:
        """The decision regions of frames of a size."""
        return self.geometry.grid(width_px, height_px)


class AdaptedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A detector whose transformer, and perhaps head, are another library's, or that is a class of another package.

    Attributes:
        name: how users choose it; of a timm model, its name there.
        source: the library, or "custom" for a class.
        architecture: digest of the library's description of the model, or of all that the boxes of a class depend on.
        geometry: of its decision regions.
        classes, pixel_mean, pixel_std: as of `DetectorConfig`; a class prepares its images itself.
        pyramid, head: our parts behind the transformer; None where the library's own follow it.
        mask_head: whether the library's mask head runs.
    """

    name: str
    source: Literal["timm", "detectron2", "custom"]
    architecture: str
    geometry: ModelGeometry
    classes: tuple[int, ...] = tuple(range(len(COCO_CLASSES)))
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    pyramid: PyramidConfig | None = None
    head: FcosConfig | None = None
    mask_head: bool = False

    @property
    def divisor_px(self) -> int:
        """Frames are padded right and bottom to a multiple of this, the side of a low-resolution patch."""
        return self.geometry.patch_px * self.geometry.factor

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that identities of models are made from."""
        return _facts(self)

    def region_grid(self, height_px: int, width_px: int) -> RegionGrid:
        """The decision regions of frames of a size."""
        return self.geometry.grid(width_px, height_px)


ModelConfig = DetectorConfig | AdaptedConfig


def _facts(config: ModelConfig) -> dict[str, Any]:
    """The fields of a configuration; those of models without a mask head are what they were before there were any."""
    facts: dict[str, Any] = msgspec.to_builtins(config)
    return facts if config.mask_head else {name: value for name, value in facts.items() if name != "mask_head"}


TINY_CLASSES = tuple(COCO_CLASSES.index(name) for name in ("person", "bicycle", "car", "bus", "traffic light"))
"""Classes of `vitdet_tiny`; "bus" stands for every large vehicle (bus, truck, train)."""

PRESETS = {
    config.name: config
    for config in (
        DetectorConfig(
            name="vitdet_tiny",
            vit=VitConfig(
                embed_dim=160,
                depth=8,
                num_heads=5,
                window=5,
                stem="hierarchical",
                position_grid=(34, 60),
                class_position=False,
                relative_positions=False,
            ),
            pyramid=PyramidConfig(strides=(8, 16, 32), channels=64),
            head=FcosConfig(nms_iou=0.4),  # measured: double reports outnumber neighbours that it separates
            classes=TINY_CLASSES,
        ),
        DetectorConfig(name="vitdet_b", vit=VitConfig(embed_dim=768, depth=12, num_heads=12)),
        DetectorConfig(name="vitdet_l", vit=VitConfig(embed_dim=1024, depth=24, num_heads=16)),
        DetectorConfig(name="vitdet_h", vit=VitConfig(embed_dim=1280, depth=32, num_heads=16)),
    )
}


def checked_window(window: int) -> int:
    """Check that a window can be served, and return it; raises `UserError` if not."""
    if not 1 <= window <= MAX_WINDOW:
        raise UserError(f"model.window={window}: give 1 to {MAX_WINDOW} tokens")
    return window


def preset(name: str) -> DetectorConfig:
    """The configuration of a named model.

    Raises:
        UserError: there is no such model.
    """
    if name not in PRESETS:
        raise UserError(f"model '{name}' is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
