"""The interface of trackers: they move the boxes of a result from its frame to the frame on screen."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vitmalis.reduction import reduction
from vitmalis.types import Detections, RgbImage

GrayImage = NDArray[np.uint8]

TrackingImage = Any
"""What `Tracker.prepare` makes of a frame and the client keeps until the result comes; every tracker has its own."""


class Tracker(abc.ABC):
    """Tracks the boxes of one result through later frames; `FrameToFrameTracker` is the base of simple ones.

    Use: `prepare` each captured image; `restart` with the prepared image that a result belongs to, then `advance`
    through those captured since. `locate` serves decisions. One instance may prepare while another one, in another
    thread, tracks.
    """

    _boxes = Detections.empty()
    _confidence: NDArray[np.float32] = np.ones(0, np.float32)
    _started_with = 0

    @abc.abstractmethod
    def prepare(self, image: RgbImage) -> TrackingImage:
        """Reduce a captured image to what tracking needs of it; called with every frame, in the order of capture."""

    @abc.abstractmethod
    def restart(self, image: TrackingImage, detections: Detections) -> None:
        """Track `detections`, which belong to `image`, instead of the present objects."""

    @abc.abstractmethod
    def advance(self, images: Sequence[TrackingImage]) -> Detections:
        """Follow the boxes through consecutive images to the last, and return those found there.

        Args:
            images: later than the one before, oldest first; none leaves the boxes where they are.

        Returns:
            boxes in pixels of the captured frame, with the scores and labels that they were restarted with.
        """

    @abc.abstractmethod
    def locate(self, detections: Detections, images: Sequence[TrackingImage]) -> Detections:
        """Locate boxes of the first image in the last one, quickly, and leave the tracked objects as they are.

        Before a decision the client locates the known objects in the frame about to be offloaded.

        Args:
            detections: boxes in the first image.
            images: consecutive images, oldest first, at least one.

        Returns:
            as many boxes in the same order; one that is not found stays where it was, as its object still matters.
        """

    @property
    def boxes(self) -> Detections:
        """The tracked objects, where they were last found."""
        return self._boxes

    @property
    def confidence(self) -> NDArray[np.float32]:
        """How sure the tracker is of each object's place, 0..1: (N,).

        Trackers by points give the share of them that passed the last forward-backward check.
        """
        return self._confidence

    @property
    def objects(self) -> int:
        """How many objects are tracked."""
        return len(self._boxes)

    @property
    def retention(self) -> float:
        """kappa: share of the objects of the last restart that are still tracked; 1 when there were none."""
        return len(self._boxes) / self._started_with if self._started_with else 1.0

    def _track(self, detections: Detections) -> None:
        """Start with these objects, none of them checked yet."""
        self._boxes = detections
        self._confidence = np.ones(len(detections), np.float32)
        self._started_with = len(detections)


@dataclass(frozen=True, slots=True, eq=False)
class GreyFrame:
    """A captured frame, grey and reduced.

    Attributes:
        grey: uint8 (H * scale, W * scale).
        scale: its side over the frame's.
    """

    grey: GrayImage
    scale: float


def grey_frame(image: RgbImage, scale: float, max_pixels: int) -> GreyFrame:
    """Grey copy of an image at `scale` times its side, or at as much of it as fits `max_pixels`."""
    height, width = image.shape[:2]
    fitting = min(scale, math.sqrt(max_pixels / (width * height)))
    steps = reduction(width, height, fitting, by_halves=fitting < scale)
    # What is averaged already costs less to convert, and what is grey less to interpolate.
    grey = np.asarray(cv2.cvtColor(steps.average(image), cv2.COLOR_RGB2GRAY), np.uint8)
    return GreyFrame(steps.interpolate(grey), fitting)
