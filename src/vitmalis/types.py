"""Types that all parts share: frames, detections and the offloading configuration."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitmalis.instance_masks import MASK_SIDE, Masks, filled_masks, pasted

RgbImage = NDArray[np.uint8]
"""RGB uint8 (H, W, 3): the only image layout inside the library."""

BoolMask = NDArray[np.bool_]

Displacements = NDArray[np.int8]
"""int8 (rows, cols, 2): by how many tokens, down and to the right, the content of each decision region has moved."""

MAX_WINDOW, MAX_FACTOR = 64, 8
"""Largest window and downsampling factor of a model that can be served; the messages admit no more."""

DownsamplingFactor = Literal[2, 3, 4]
"""Downsampling factors that options offer: 1 changes nothing, and beyond 4 hardly anything is seen."""
DOWNSAMPLING_FACTORS: tuple[int, ...] = get_args(DownsamplingFactor)

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's contiguous classes: a label is an index into this tuple, whatever the model."""

SCORE_THRESHOLD = 0.5
"""Boxes with a lower score are neither shown nor counted, unless a run says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame that the camera captured.

    Attributes:
        index: position in the played part of the clip, from 0.
        capture_time_s: seconds from the first frame of the run to this frame's capture.
        image: RGB uint8 (H, W, 3).
    """

    index: int
    capture_time_s: float
    image: RgbImage


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detected objects of one frame.

    A mask is given in its box, as mask heads predict it: who moves or scales the box moves or scales the mask with it.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the original frame.
        scores: float32 (N,), 0..1.
        labels: int64 (N,), indices into `COCO_CLASSES`.
        masks: uint8 (N, `MASK_SIDE`, `MASK_SIDE`), how probable it is that a pixel of the box is the object's, from
            `MASK_THRESHOLD` on that it is. A detector gives 16 levels, as `vitmalis.instance_masks.quantized` makes
            them, which is what is sent and stored. None from a model that finds boxes only.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Masks | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4) or self.labels.shape != (n,):
            raise ValueError(
                f"boxes_xyxy {self.boxes_xyxy.shape}, scores {self.scores.shape} and labels {self.labels.shape} "
                "must be (N, 4), (N,) and (N,)"
            )
        if self.masks is not None and (self.masks.shape != (n, MASK_SIDE, MASK_SIDE) or self.masks.dtype != np.uint8):
            raise ValueError(
                f"masks {self.masks.shape} of {self.masks.dtype} must be ({n}, {MASK_SIDE}, {MASK_SIDE}) of uint8"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Build an object without any boxes."""
        return cls.of([], [], [])

    @classmethod
    def of(cls, boxes_xyxy: object, scores: object, labels: object, masks: object = None) -> Detections:
        """Build from array-likes, converting dtypes."""
        return cls(
            np.asarray(boxes_xyxy, np.float32).reshape(-1, 4),
            np.asarray(scores, np.float32).reshape(-1),
            np.asarray(labels, np.int64).reshape(-1),
            None if masks is None else np.asarray(masks, np.uint8).reshape(-1, MASK_SIDE, MASK_SIDE),
        )

    def select(self, keep: NDArray) -> Detections:
        """Return the rows chosen by a bool mask (N,) or by indices."""
        masks = None if self.masks is None else self.masks[keep]
        return Detections(self.boxes_xyxy[keep], self.scores[keep], self.labels[keep], masks)

    def at(self, boxes_xyxy: NDArray[np.float32]) -> Detections:
        """Return these objects with other boxes, (N, 4), which their masks move and scale with."""
        return replace(self, boxes_xyxy=boxes_xyxy)

    def scaled(self, across: float, down: float) -> Detections:
        """Return these rows in an image that is so many times as wide and as high."""
        return self.at(self.boxes_xyxy * np.array([across, down] * 2, np.float32))

    def with_more(self, other: Detections) -> Detections:
        """Return these rows followed by those of `other`; boxes without masks are filled next to such with masks."""
        masked = self.masks is not None or other.masks is not None
        return Detections(
            np.concatenate([self.boxes_xyxy, other.boxes_xyxy]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.masks_or_boxes, other.masks_or_boxes]) if masked else None,
        )

    @property
    def masks_or_boxes(self) -> Masks:
        """The masks; without any, masks that fill their boxes."""
        return filled_masks(len(self)) if self.masks is None else self.masks

    def masks_in_frame(self, width: int, height: int) -> NDArray[np.bool_] | None:
        """Draw each mask in the whole frame, (N, height, width); None without masks."""
        if self.masks is None:
            return None
        rows = zip(self.masks, self.boxes_xyxy, strict=True)
        drawn = [pasted(mask, box, (0, 0, width, height)) for mask, box in rows]
        return np.array(drawn, bool).reshape(-1, height, width)

    def above(self, score: float) -> Detections:
        """Return the rows with at least this score."""
        return self.select(self.scores >= score)

    def to_supervision(self, frame_size: tuple[int, int] | None = None) -> Any:
        """Return these objects as `supervision.Detections`, with the names of their classes.

        Args:
            frame_size: (width, height) of the frame, which masks are drawn in; without it there are boxes only.

        Raises:
            ModuleNotFoundError: the package supervision is not installed.
        """
        try:  # not an import statement: the boxes of a model do not depend on the version of this package
            supervision = importlib.import_module("supervision")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"to_supervision() needs '{error.name}': pip install 'vitmalis[supervision]'", name=error.name
            ) from error
        names = np.array([COCO_CLASSES[label] for label in self.labels], dtype=str)
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            mask=None if frame_size is None else self.masks_in_frame(*frame_size),
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": names},
        )


class BoxSource(StrEnum):
    """Where the boxes rendered on a frame come from."""

    REMOTE = "remote"  # the server's result for this very frame
    TRACKER = "tracker"  # the local tracker
    STALE = "stale"  # the server's result for an earlier frame, unchanged
    NONE = "none"  # nothing has arrived yet


class OffloadStatus(StrEnum):
    """The way in which an offload ended."""

    OK = "ok"  # with a result
    LOST = "lost"  # without an answer
    FAILED = "failed"  # the server refused it


@dataclass(frozen=True, slots=True, order=True)
class Configuration:
    """Offloading configuration c = (tau_d, lambda, beta), paper section IV-B.

    Attributes:
        tau_d: what to downsample: 0 nothing, 1 CMRs, 2 CMRs and SBRs.
        quality: JPEG quality lambda, 1..100.
        restoration_point: beta in 0..N; 0 restores before the backbone.
    """

    tau_d: int = 0
    quality: int = 95
    restoration_point: int = 0
