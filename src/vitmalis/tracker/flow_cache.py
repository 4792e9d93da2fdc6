"""A tracker that computes one dense flow per captured frame, so that a catch-up takes a few milliseconds.

The flow from each frame to the next (DIS: Kroeger et al. 2016, https://doi.org/10.1007/978-3-319-46493-0_29) is
computed when the frame is captured, and kept until the result comes. A catch-up composes the flows at a grid of points
in each box and moves the box by medians, as `lucas_kanade` does, without touching an image. Composed flows drift, so in
the last frame the points are refined against the frame of the result: Lucas-Kanade near where they are expected,
forwards and backwards. The share of points that return is the confidence of a box; a box with too few keeps the place
that the flows gave it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.tracker.base import GrayImage, GreyFrame, GreyOptions, Share, Tracker, grey_frame
from vitmalis.tracker.box_motion import grid_points, move_boxes, visible_share
from vitmalis.types import Detections, RgbImage

Flow = NDArray[np.float32]

_MIN_SIDE = 12
"""Shortest side of an image that DIS takes, pixels."""
_ENOUGH = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
"""When Lucas-Kanade ends: after so many steps, or one of fewer pixels than this."""


class FlowCacheOptions(GreyOptions, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="flow_cache"):
    """Options of the flow cache; by default, the grey copy of a 1920x1080 frame still has half of its side.

    Attributes:
        flow_scale: side of the flow over the grey copy's.
        finest_level: pyramid level at which the dense flow ends; 0 is the flow's own size, each further one half of it.
        patch_px: side of the patches that the dense flow matches, which do not overlap; larger ones, as OpenCV's preset
            has them, take in the background of small objects and leave these behind.
        grid: points per box side.
        coverage: share of the box side that the grid spans; its border is mostly background.
        min_points: a box with fewer points that return is not refined.
        min_confidence: a box is lost once less than this share of its points return.
        min_visible: a box is lost once less than this share of it lies inside the frame.
    """

    max_pixels: Annotated[int, msgspec.Meta(ge=1)] = 518_400
    levels: int = 2
    flow_scale: Share = 0.5
    finest_level: int = 1
    patch_px: int = 4
    grid: int = 5
    coverage: float = 0.7
    min_points: int = 4
    min_confidence: float = 0.0
    min_visible: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class FlowImage(GreyFrame):
    """A captured frame as the flow cache keeps it.

    Attributes:
        flow: float32 (h, w, 2), where each pixel of the frame before has gone, in the flow's pixels;
            None for the first frame.
        key: identifies this frame.
        key_before: `key` of the frame that `flow` starts at.
    """

    flow: Flow | None = None
    key: object = field(default_factory=object)
    key_before: object | None = None


class FlowCacheTracker(Tracker):
    """Composes cached flows at the boxes, and refines them against the frame of the result."""

    def __init__(self, options: FlowCacheOptions | None = None) -> None:
        self.options = options or FlowCacheOptions()
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._dis.setFinestScale(self.options.finest_level)
        self._dis.setPatchSize(self.options.patch_px)
        self._dis.setPatchStride(self.options.patch_px)
        self._prepared: FlowImage | None = None
        self._anchor: FlowImage | None = None
        self._anchor_boxes = np.empty((0, 4), np.float32)
        self._last: FlowImage | None = None

    def prepare(self, image: RgbImage) -> FlowImage:
        """Grey copy of the image, and the dense flow from the image prepared before."""
        frame, before = grey_frame(image, self.options), self._prepared
        flow, key_before = (self._flow(before.grey, frame.grey), before.key) if before else (None, None)
        self._prepared = FlowImage(frame.grey, frame.scale, flow, key_before=key_before)
        return self._prepared

    def restart(self, image: FlowImage, detections: Detections) -> None:
        """Track `detections`, which belong to `image`, instead of the present objects."""
        self._track(detections)
        self._anchor = self._last = image
        self._anchor_boxes = detections.boxes_xyxy * np.float32(image.scale)

    def advance(self, images: Sequence[FlowImage]) -> Detections:
        """Compose the flows of these images at the boxes, then refine the boxes in the last of them."""
        anchor, last = self._anchor, self._last
        if anchor is None or last is None or not images:
            return self._boxes
        self._last = images[-1]
        if not len(self._boxes):
            return self._boxes
        scale = np.float32(images[-1].scale)
        known = self._boxes.boxes_xyxy * scale
        boxes, confidence = self._followed(known, [last, *images], anchor, self._anchor_boxes)
        inside = visible_share(boxes, images[-1].grey.shape[::-1]) >= self.options.min_visible
        kept = inside & (confidence >= self.options.min_confidence)
        self._anchor_boxes, self._confidence = self._anchor_boxes[kept], confidence[kept]
        self._boxes = self._boxes.select(kept).at(boxes[kept] / scale)
        return self._boxes

    def locate(self, detections: Detections, images: Sequence[FlowImage]) -> Detections:
        """Follow boxes as a catch-up does, which is quick."""
        if len(images) < 2 or not len(detections):
            return detections
        scale = np.float32(images[-1].scale)
        known = detections.boxes_xyxy * scale
        boxes, _ = self._followed(known, images, images[0], known)
        return detections.at(boxes / scale)

    def _followed(
        self,
        boxes_xyxy: NDArray[np.float32],
        images: Sequence[FlowImage],
        anchor: FlowImage,
        anchor_boxes: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Move boxes from the first image to the last, and refine them there against the anchor; see `refine`."""
        flows = [self._between(*pair) for pair in pairwise(images)]
        boxes = compose(flows, boxes_xyxy, self.options)
        return refine(anchor.grey, images[-1].grey, anchor_boxes, boxes, self.options.at(anchor.scale))

    def _between(self, image: FlowImage, later: FlowImage) -> Flow:
        """Flow from one image to a later one; computed now if frames between them are no longer kept."""
        cached = later.flow if later.key_before is image.key else None
        return self._flow(image.grey, later.grey) if cached is None else cached

    def _flow(self, grey: GrayImage, later: GrayImage) -> Flow:
        small, small_later = self._small(grey), self._small(later)
        return np.asarray(self._dis.calc(small, small_later, None), np.float32)  # type: ignore[call-overload]

    def _small(self, grey: GrayImage) -> GrayImage:
        """The grey image at the flow's scale, continued beyond its borders where DIS would refuse it as too small."""
        factor = self.options.flow_scale
        grey = _extended(grey, math.ceil(1 / factor))
        small = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return _extended(np.asarray(small, np.uint8), _MIN_SIDE)


def _extended(image: GrayImage, least_px: int) -> GrayImage:
    """The image continued beyond its borders until no side is shorter than this."""
    below, right = (max(0, least_px - side) for side in image.shape)
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)


def compose(flows: Sequence[Flow], boxes_xyxy: NDArray[np.float32], options: FlowCacheOptions) -> NDArray[np.float32]:
    """Move boxes by one flow after the other.

    Each step shifts a box by the median flow at its grid of points, and scales it by the median growth along the lines
    from its centre to them.

    Args:
        flows: float32 (h, w, 2), of one size.
        boxes_xyxy: (N, 4), pixels of the grey image.
        options: see `FlowCacheOptions`.

    Returns:
        float32 (N, 4), pixels of the grey image.
    """
    boxes = boxes_xyxy.T * np.float32(options.flow_scale)
    centres, sizes = (boxes[:2] + boxes[2:]) / 2, np.maximum(boxes[2:] - boxes[:2], 1e-3)  # (2, N), as all that follow
    unit = np.array([[-0.5, -0.5, 0.5, 0.5]], np.float32)
    lattice = grid_points(unit, options.grid, options.coverage).transpose(2, 0, 1)  # (2, 1, P)
    height, width = flows[0].shape[:2]
    last_pixel = np.array([width - 1, height - 1], np.float32)[:, None, None]
    for flow in flows:
        offsets = lattice * sizes[..., None]  # (2, N, P)
        column, row = np.clip(np.rint(centres[..., None] + offsets), 0, last_pixel).astype(np.intp)
        moved = flow[row, column].transpose(2, 0, 1)
        shift = _median(moved)
        along = ((moved - shift[..., None]) * offsets).sum(axis=0)
        distance2 = np.maximum((offsets * offsets).sum(axis=0), 1e-6)  # the point in the centre says nothing of size
        centres, sizes = centres + shift, sizes * (1 + _median(along / distance2))
    half = sizes / 2
    moved_boxes = np.concatenate([centres - half, centres + half]).T / options.flow_scale
    return moved_boxes.astype(np.float32)


def refine(
    anchor: GrayImage,
    image: GrayImage,
    anchor_boxes: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    options: FlowCacheOptions,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Correct boxes by their points in the frame of the result.

    Args:
        anchor, image: the frame of the result and the present one, uint8 (H, W).
        anchor_boxes, boxes_xyxy: (N, 4), boxes in the one and about where they are in the other.
        options: see `FlowCacheOptions`.

    Returns:
        boxes (N, 4), as they were where too few points return; and (N,), the share of points that return.
    """
    start = grid_points(anchor_boxes, options.grid, options.coverage)  # (N, P, 2)
    expected = grid_points(boxes_xyxy, options.grid, options.coverage)
    found, seen = _nearby(anchor, image, start, expected, options)
    # The way back starts off the mark by as much as the way there was corrected, so that returning means something.
    back, seen_back = _nearby(image, anchor, found, start + found - expected, options)
    good = seen & seen_back & (np.linalg.norm(back - start, axis=2) <= options.max_return_error_px)
    refined = good.sum(axis=1) >= options.min_points
    corrected = move_boxes(anchor_boxes, start, found, good)
    return np.where(refined[:, None], corrected, boxes_xyxy), good.mean(axis=1, dtype=np.float32)


def _nearby(
    image: GrayImage,
    other: GrayImage,
    points: NDArray[np.float32],
    expected: NDArray[np.float32],
    options: FlowCacheOptions,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Find points (N, P, 2) in another image, near where they are expected; returns places, and bool (N, P): found."""
    found, seen, _ = cv2.calcOpticalFlowPyrLK(
        image,
        other,
        points.reshape(-1, 1, 2),
        expected.reshape(-1, 1, 2).astype(np.float32),
        winSize=(options.window_px, options.window_px),
        maxLevel=options.levels,
        criteria=_ENOUGH,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(found, np.float32).reshape(points.shape), seen.reshape(points.shape[:2]).astype(bool)


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the last axis, in a fraction of the time of `numpy.median`."""
    ordered, count = np.sort(values, axis=-1), values.shape[-1]
    return np.asarray((ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2, np.float32)
