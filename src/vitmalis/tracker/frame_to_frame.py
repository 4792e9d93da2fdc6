"""Base of trackers that follow boxes from one frame to the next: one method finds them, all else is here."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.tracker.base import Tracker, TrackingImage
from vitmalis.types import Detections, RgbImage


class FrameToFrameTracker(Tracker):
    """Follows boxes through each frame in turn; every step costs the same, also those of a catch-up.

    A subclass needs `follow` alone. It overrides `prepare` where it needs less of a frame than its pixels.
    """

    _image: TrackingImage = None

    @abc.abstractmethod
    def follow(
        self, previous: TrackingImage, current: TrackingImage, boxes_xyxy: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
        """Find boxes of one image in a later one.

        Args:
            previous, current: made by `prepare`.
            boxes_xyxy: float32 (N, 4) in `previous`, N >= 1; pixels of the captured frame, parts of them outside of it.

        Returns:
            boxes (N, 4) in `current`; bool (N,): which of them were found; and the confidence in each, 0..1 (N,).
        """

    def prepare(self, image: RgbImage) -> TrackingImage:
        """Keep the captured image as it is."""
        return image

    def restart(self, image: TrackingImage, detections: Detections) -> None:
        """Track `detections`, which belong to `image`, instead of the present objects."""
        self._image = image
        self._track(detections)

    def advance(self, images: Sequence[TrackingImage]) -> Detections:
        """Follow the boxes through each image in turn; those that are not found are lost."""
        for image in images:
            self.step(image)
        return self._boxes

    def step(self, image: TrackingImage) -> Detections:
        """Follow the boxes into `image` and return those that were found, in pixels of the captured frame."""
        previous, self._image = self._image, image
        if previous is None or not len(self._boxes):
            return self._boxes
        moved, found, confidence = self.follow(previous, image, self._boxes.boxes_xyxy)
        self._boxes = self._boxes.select(found).at(moved[found])
        self._confidence = confidence[found]
        return self._boxes

    def locate(self, detections: Detections, images: Sequence[TrackingImage]) -> Detections:
        """Follow boxes from the first image to the last in one step, whatever the number of images between them."""
        return self.moved(images[0], images[-1], detections)

    def moved(self, image: TrackingImage, next_image: TrackingImage, detections: Detections) -> Detections:
        """Move the boxes of one prepared image to their places in the next; boxes that are not found stay in place."""
        if not len(detections):
            return detections
        moved, found, _ = self.follow(image, next_image, detections.boxes_xyxy)
        return detections.at(np.where(found[:, None], moved, detections.boxes_xyxy))
