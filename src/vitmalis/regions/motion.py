"""Motion of each decision region: background subtraction on a reduced frame (paper, section IV-B and Fig. 11).

The subtractor is OpenCV's MOG2 (Zivkovic 2004, https://doi.org/10.1109/ICPR.2004.1333992).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.reduction import Reduction, reduction, scaled
from vitmalis.regions.grid import Int64Array, RegionGrid
from vitmalis.types import BoolMask, RgbImage


class MotionOptions(msgspec.Struct, frozen=True):
    """Options of the motion analyzer.

    Attributes:
        scale: side of the analysed image over the frame's; a quarter of the side costs a sixteenth.
        max_pixels: most pixels of the analysed image; a frame that would have more is reduced further, by halves. By
            default a 1920x1080 frame is analysed at the size of a 960x540 frame.
        history: number of analysed frames that the background is learned from: few, as the camera moves.
        variance_threshold: squared distance from the background, in variances, from which a pixel is foreground.

    Raises:
        UserError: a number is out of range.
    """

    scale: float = 0.25
    max_pixels: int = 60_000
    history: int = 5
    variance_threshold: float = 16.0

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise UserError(f"motion.scale must be above 0 and at most 1, not {self.scale}")
        if self.max_pixels < 1:
            raise UserError(f"motion.max_pixels must be at least 1, not {self.max_pixels}")
        if self.history < 1:
            raise UserError(f"motion.history must be at least 1 frame, not {self.history}")
        if self.variance_threshold <= 0:
            raise UserError(f"motion.variance_threshold must be positive, not {self.variance_threshold}")


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Motion in one frame.

    Attributes:
        region_motion: m_j, float32 (rows, cols): the region's share of all foreground pixels; they sum to 1, or are
            all 0 in a frame without foreground.
        frame_motion: m_f, share of the frame's pixels that are foreground, 0..1.
        image_foreground: bool (H * scale, W * scale), foreground of the analysed image; None where it is not kept.
    """

    region_motion: NDArray[np.float32]
    frame_motion: float
    image_foreground: BoolMask | None = None


class MotionAnalyzer:
    """Separates foreground from background in consecutive frames and counts foreground per region.

    Frames may be skipped: the model then adapts over fewer of them. In the first frame nothing is known about the
    background, so all of it is foreground and every region has its share of the area.
    """

    def __init__(self, grid: RegionGrid, options: MotionOptions | None = None) -> None:
        self.grid = grid
        self.options = options or MotionOptions()
        self._reduction = reduction_of(grid, self.options)
        self._subtractor = cv2.createBackgroundSubtractorMOG2(
            self.options.history, self.options.variance_threshold, detectShadows=False
        )
        width, height = self._reduction.size
        self._rows = _borders(grid.shape[0], grid.side_px, grid.height_px, height)
        self._cols = _borders(grid.shape[1], grid.side_px, grid.width_px, width)

    def analyse(self, image: RgbImage) -> Motion:
        """Analyse the next frame, RGB uint8 (H, W, 3) of the grid's frame size.

        Raises:
            UserError: the frame is of another size than the grid.
        """
        height, width = image.shape[:2]
        if (width, height) != (self.grid.width_px, self.grid.height_px):
            raise UserError(
                f"motion analysis: a {width}x{height} frame was given to the regions of "
                f"{self.grid.width_px}x{self.grid.height_px} frames: make another analyzer when the size changes"
            )
        small = self._reduction.apply(image)
        foreground = np.asarray(self._subtractor.apply(small, learningRate=1 / self.options.history)) > 0
        return motion_of(foreground, self._rows, self._cols)


def motion_of(foreground: BoolMask, row_borders: Int64Array, col_borders: Int64Array) -> Motion:
    """Count foreground pixels per region.

    Args:
        foreground: bool (H, W).
        row_borders: (rows + 1,), from 0 to H: where regions begin and end, pixels of `foreground`.
        col_borders: (cols + 1,), from 0 to W.
    """
    # An integral image, as regions of a reduced frame may be empty and np.add.reduceat has no empty sums.
    table = cv2.integral(foreground.view(np.uint8))[np.ix_(row_borders, col_borders)]
    counts = np.diff(np.diff(table, axis=0), axis=1)
    total = int(table[-1, -1])
    return Motion((counts / max(total, 1)).astype(np.float32), total / foreground.size, foreground)


def reduction_of(grid: RegionGrid, options: MotionOptions) -> Reduction:
    """Reduction of the grid's frames, without padding, to the images that are analysed."""
    width, height, scale = grid.width_px, grid.height_px, options.scale
    while prod(scaled(width, height, scale)) > options.max_pixels:
        scale /= 2
    return reduction(width, height, scale, by_halves=scale < options.scale)


def _borders(count: int, side_px: int, length_px: int, reduced_px: int) -> Int64Array:
    """Where `count` regions along a frame side of `length_px` begin and end once it has `reduced_px`: (count + 1,)."""
    borders_px = np.minimum(np.arange(count + 1) * side_px, length_px)
    return np.rint(borders_px * reduced_px / length_px).astype(np.int64)
