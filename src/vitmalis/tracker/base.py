"""The interface of trackers: they move the boxes of a result from its frame to the frame on screen."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import cv2
import msgspec
import numpy as np
from msgspec import structs
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


Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


@dataclass(frozen=True, slots=True, eq=False)
class GreyFrame:
    """A captured frame, grey and reduced.

    Attributes:
        grey: uint8 (H * scale, W * scale).
        scale: its side over the frame's.
    """

    grey: GrayImage
    scale: float


class GreyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of trackers that follow points in grey copies of frames.

    Attributes:
        scale: side of the grey copy over the frame's, above 0 and at most 1; half the side costs a quarter.
        max_pixels: most pixels of the grey copy; that of a larger frame is reduced further to have as many.
        window_px: side of the Lucas-Kanade window, pixels of a grey copy at `scale`.
        max_return_error_px: forward-backward error above which a point does not count, in the same pixels.
        levels: pyramid levels above the grey copy at `scale`, by which Lucas-Kanade reaches beyond the window.
    """

    scale: Share = 0.5
    max_pixels: Annotated[int, msgspec.Meta(ge=1)] = 230_400
    window_px: Annotated[int, msgspec.Meta(ge=3)] = 11
    max_return_error_px: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    levels: Annotated[int, msgspec.Meta(ge=0)] = 3

    def at(self, scale: float) -> Self:
        """These options for a grey copy that is reduced further: in the frame, windows and pyramids stay as large."""
        if scale == self.scale:
            return self
        factor = scale / self.scale
        return structs.replace(
            self,
            window_px=max(3, round(self.window_px * factor) | 1),  # odd: it has a pixel in its centre
            max_return_error_px=self.max_return_error_px * factor,
            levels=max(0, self.levels + round(math.log2(factor))),
        )


def grey_frame(image: RgbImage, options: GreyOptions) -> GreyFrame:
    """Grey copy of a frame."""
    height, width = image.shape[:2]
    scale = min(options.scale, math.sqrt(options.max_pixels / (width * height)))
    steps = reduction(width, height, scale, by_halves=scale < options.scale)
    # What is averaged already costs less to convert, and what is grey less to interpolate.
    grey = np.asarray(cv2.cvtColor(steps.average(image), cv2.COLOR_RGB2GRAY), np.uint8)
    return GreyFrame(steps.interpolate(grey), scale)
