"""Lucas-Kanade tracking of all boxes of a frame together, the paper's tracker (section V).

The catch-up follows Glimpse (SenSys 2015, https://doi.org/10.1145/2809695.2809711), the paper's [25].

Each step follows a fixed grid of points per box with pyramidal Lucas-Kanade, forwards and backwards, keeps the points
that return to where they started, and moves and scales the box by their medians: Median Flow (Kalal et al. 2010,
https://doi.org/10.1109/ICPR.2010.675). The grid is laid out again on every frame, so no point can drift off its object;
all boxes go through one flow call and one vectorised estimate.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.tracker.base import GrayImage, GreyFrame, GreyOptions, grey_frame
from vitmalis.tracker.box_motion import grid_points, move_boxes, visible_share
from vitmalis.tracker.frame_to_frame import FrameToFrameTracker
from vitmalis.types import RgbImage


class LucasKanadeOptions(GreyOptions, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="lucas_kanade"):
    """Options of the Lucas-Kanade tracker; by default, the grey copy has a third of the side of a 1920x1080 frame.

    Attributes:
        grid: points per box side.
        coverage: share of the box side that the grid spans; its border is mostly background.
        min_points: a box with fewer surviving points is lost.
        min_visible: a box is lost once less than this share of it lies inside the frame.
    """

    grid: int = 4
    coverage: float = 0.7
    min_points: int = 4
    min_visible: float = 0.3


class LucasKanadeTracker(FrameToFrameTracker):
    """Follows points of each box from frame to frame."""

    def __init__(self, options: LucasKanadeOptions | None = None) -> None:
        self.options = options or LucasKanadeOptions()

    def prepare(self, image: RgbImage) -> GreyFrame:
        """Grey copy of the image at the tracker's scale."""
        return grey_frame(image, self.options)

    def follow(
        self, previous: GreyFrame, current: GreyFrame, boxes_xyxy: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """Find boxes of one prepared image in the next, by the points in them."""
        scale = current.scale
        options = self.options.at(scale)
        moved, found, confidence = track_boxes(previous.grey, current.grey, boxes_xyxy * scale, options)
        return moved / np.float32(scale), found, confidence


def track_boxes(
    previous: GrayImage, current: GrayImage, boxes_xyxy: NDArray[np.float32], options: LucasKanadeOptions
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Move boxes from one image to the next.

    Args:
        previous, current: uint8 (H, W).
        boxes_xyxy: float32 (N, 4), pixels of these images.
        options: see `LucasKanadeOptions`.

    Returns:
        boxes (N, 4) in `current`; bool (N,): which of them were found; and (N,): share of their points that returned.
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
    return moved, enough & inside, good.mean(axis=1, dtype=np.float32)


def _flow(
    previous: GrayImage, current: GrayImage, points: NDArray[np.float32], options: LucasKanadeOptions
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Pyramidal Lucas-Kanade: points (P, 1, 2) -> where they went (P, 1, 2), and 1 where they were found (P, 1)."""
    window = (options.window_px, options.window_px)
    moved, seen, _ = cv2.calcOpticalFlowPyrLK(
        previous, current, points, np.empty_like(points), winSize=window, maxLevel=options.levels
    )
    return np.asarray(moved, np.float32), np.asarray(seen, np.uint8)
