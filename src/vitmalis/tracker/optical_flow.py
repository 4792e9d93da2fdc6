"""Optical-flow tracking of all boxes of a frame together (paper, section V).

The catch-up follows Glimpse (SenSys 2015, https://doi.org/10.1145/2809695.2809711), the paper's [25].

Each step follows a fixed grid of points per box with pyramidal Lucas-Kanade, forwards and backwards, keeps the points
that return to where they started, and moves and scales the box by their medians: Median Flow (Kalal et al. 2010,
https://doi.org/10.1109/ICPR.2010.675). The grid is laid out again on every frame, so no point can drift off its object;
all boxes go through one flow call and one vectorised estimate.
"""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.types import Detections, RgbImage

GrayImage = NDArray[np.uint8]


class TrackerOptions(msgspec.Struct, frozen=True):
    """Options of the optical-flow tracker.

    Attributes:
        scale: the tracker's image side over the frame's; half the side costs a quarter.
        grid: points per box side.
        coverage: share of the box side that the grid spans; its border is mostly background.
        max_return_error_px: forward-backward error above which a point is dropped, pixels of the tracker's image.
        min_points: a box with fewer surviving points is lost.
        window_px: side of the Lucas-Kanade window.
        levels: pyramid levels above the base.
        min_visible: a box is lost once less than this share of it lies inside the frame.
    """

    scale: float = 0.5
    grid: int = 4
    coverage: float = 0.7
    max_return_error_px: float = 1.0
    min_points: int = 4
    window_px: int = 11
    levels: int = 3
    min_visible: float = 0.3


class OpticalFlowTracker:
    """Tracks the boxes of one result from frame to frame.

    Use: `restart` with the image that the boxes belong to, then `step` with each later image. Images come from
    `prepare`, so that frames kept for the catch-up are small.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self._image: GrayImage | None = None
        self._boxes = Detections.empty()
        self._started_with = 0

    def prepare(self, image: RgbImage) -> GrayImage:
        """Grey copy at the tracker's scale: uint8 (H * scale, W * scale)."""
        # Reduced before the colour conversion, which then costs less, too.
        small = cv2.resize(image, None, fx=self.options.scale, fy=self.options.scale, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

    def restart(self, image: GrayImage, detections: Detections) -> None:
        """Track `detections`, which belong to `image`, instead of the present objects."""
        self._image = image
        self._boxes = detections
        self._started_with = len(detections)

    def step(self, image: GrayImage) -> Detections:
        """Follow the boxes into `image` and return those that were found, in pixels of the original frame."""
        previous, self._image = self._image, image
        if previous is None or not len(self._boxes):
            return self._boxes
        scale = self.options.scale
        moved, found = track_boxes(previous, image, self._boxes.boxes_xyxy * scale, self.options)
        kept = self._boxes.select(found)
        self._boxes = Detections(moved[found] / np.float32(scale), kept.scores, kept.labels)
        return self._boxes

    def moved(self, image: GrayImage, next_image: GrayImage, detections: Detections) -> Detections:
        """Move the boxes of one prepared image to their places in the next; boxes that the flow loses stay in place."""
        if not len(detections):
            return detections
        scale = self.options.scale
        moved, found = track_boxes(image, next_image, detections.boxes_xyxy * scale, self.options)
        boxes = np.where(found[:, None], moved / np.float32(scale), detections.boxes_xyxy)
        return Detections(boxes, detections.scores, detections.labels)

    @property
    def boxes(self) -> Detections:
        """The tracked objects, where they were last found."""
        return self._boxes

    @property
    def objects(self) -> int:
        """Number of tracked objects."""
        return len(self._boxes)

    @property
    def retention(self) -> float:
        """kappa: share of the objects of the last restart that are still tracked; 1 when there were none."""
        return len(self._boxes) / self._started_with if self._started_with else 1.0


def track_boxes(
    previous: GrayImage, current: GrayImage, boxes_xyxy: NDArray[np.float32], options: TrackerOptions
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Move boxes from one image to the next.

    Args:
        previous, current: uint8 (H, W).
        boxes_xyxy: float32 (N, 4), pixels of these images.
        options: see `TrackerOptions`.

    Returns:
        boxes (N, 4) in `current`, and bool (N,): which of them were found.
    """
    points = grid_points(boxes_xyxy, options.grid, options.coverage)  # (N, P, 2)
    start = points.reshape(-1, 1, 2)
    forward, seen = _flow(previous, current, start, options)
    back, seen_back = _flow(current, previous, forward, options)
    return_error = np.linalg.norm(back - start, axis=2)
    good = (seen & seen_back).astype(bool) & (return_error <= options.max_return_error_px)
    good = good.reshape(points.shape[:2])

    moved = move_boxes(boxes_xyxy, points, forward.reshape(points.shape), good)
    enough = good.sum(axis=1) >= options.min_points
    inside = visible_share(moved, (current.shape[1], current.shape[0])) >= options.min_visible
    return moved, enough & inside


def _flow(
    previous: GrayImage, current: GrayImage, points: NDArray[np.float32], options: TrackerOptions
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Pyramidal Lucas-Kanade: points (P, 1, 2) -> where they went (P, 1, 2), and 1 where they were found (P, 1)."""
    window = (options.window_px, options.window_px)
    moved, seen, _ = cv2.calcOpticalFlowPyrLK(
        previous, current, points, np.empty_like(points), winSize=window, maxLevel=options.levels
    )
    return np.asarray(moved, np.float32), np.asarray(seen, np.uint8)


def grid_points(boxes_xyxy: NDArray[np.float32], grid: int, coverage: float) -> NDArray[np.float32]:
    """A grid x grid lattice centred in each box: float32 (N, grid * grid, 2) as x, y."""
    offsets = np.linspace(-coverage / 2, coverage / 2, grid, dtype=np.float32)
    lattice = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(1, -1, 2)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.ascontiguousarray(centres[:, None] + lattice * sizes[:, None], np.float32)


def move_boxes(
    boxes_xyxy: NDArray[np.float32],
    points: NDArray[np.float32],
    moved_points: NDArray[np.float32],
    good: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Shift each box by the median motion of its good points and scale it by the median change of their distances.

    Args:
        boxes_xyxy: (N, 4). points, moved_points: (N, P, 2). good: bool (N, P).

    Returns:
        float32 (N, 4); boxes without a good point stay.
    """
    shift = _masked_median(moved_points - points, good[..., None])  # (N, 2)
    # Distances between each point and every other, before and after: (N, P, P)
    before = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    after = np.linalg.norm(moved_points[:, :, None] - moved_points[:, None], axis=-1)
    pairs = good[:, :, None] & good[:, None] & (before > 0)
    ratio = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    n = len(boxes_xyxy)
    scale = _masked_median(ratio.reshape(n, -1, 1), pairs.reshape(n, -1, 1), default=1.0)  # (N, 1)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 + shift
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2 * scale
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def visible_share(boxes_xyxy: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each box's area inside an image of `size` (width, height): float32 (N,)."""
    limit = np.asarray([*size, *size], np.float32)
    clipped = np.clip(boxes_xyxy, 0, limit)
    area = np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1e-6), axis=1)
    return np.asarray(np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / area, np.float32)


def _masked_median(values: NDArray, mask: NDArray, default: float = 0.0) -> NDArray:
    """Median over axis 1 of the masked values: (N, K, C) -> (N, C), `default` where nothing is masked in."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = np.broadcast_to(mask, values.shape).sum(axis=1)  # (N, C)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None] // 2, axis=1)[:, 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(count > 0, (np.where(count > 0, low, 0) + np.where(count > 0, high, 0)) / 2, default)
