"""Geometry of decision regions (paper, section III-A): pure functions of frame size, patch, window and factor."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.regions.treatment import AnyTreatments, Treatment, Treatments
from vitmalis.types import MAX_FACTOR, MAX_WINDOW, BoolMask

Int64Array = NDArray[np.int64]

MAX_PATCH_PX, MAX_RESTORATION_POINTS = 64, 64
"""Largest patch and number of restoration points that a session admits."""


@dataclass(frozen=True, slots=True)
class RegionGrid:
    """The decision regions of a frame.

    A region is `window * factor` patches wide and high, so that at low resolution it is exactly one attention window.
    The frame is padded right and bottom only as far as a low-resolution patch reaches; regions at those borders may
    be partial.

    Attributes:
        width_px, height_px: the frame before padding.
        window: side of an attention window in tokens.
        factor: how much smaller a downsampled region is, along each axis.
        patch_px: side of a patch.

    Raises:
        UserError: a number below 1.
    """

    width_px: int
    height_px: int
    window: int
    factor: int = 2
    patch_px: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise UserError(f"region grid: {field.name} must be at least 1, not {getattr(self, field.name)}")

    @property
    def patch_rows(self) -> int:
        """Rows of full-resolution patches, a multiple of the factor."""
        return -(-self.height_px // (self.patch_px * self.factor)) * self.factor

    @property
    def patch_cols(self) -> int:
        """Columns of full-resolution patches, a multiple of the factor."""
        return -(-self.width_px // (self.patch_px * self.factor)) * self.factor

    @property
    def padded_width_px(self) -> int:
        """Width of the frame after padding."""
        return self.patch_cols * self.patch_px

    @property
    def padded_height_px(self) -> int:
        """Height of the frame after padding."""
        return self.patch_rows * self.patch_px

    @property
    def side(self) -> int:
        """Patches along each side of a whole region: r of the paper."""
        return self.window * self.factor

    @property
    def side_px(self) -> int:
        """Pixels along each side of a whole region."""
        return self.side * self.patch_px

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of regions: the shape of every mask."""
        return -(-self.patch_rows // self.side), -(-self.patch_cols // self.side)

    @property
    def heights(self) -> Int64Array:
        """Height of each row of regions in patches: (rows,), multiples of the factor; only the last may be partial."""
        return _extents(self.patch_rows, self.side)

    @property
    def widths(self) -> Int64Array:
        """Width of each column of regions in patches: (cols,)."""
        return _extents(self.patch_cols, self.side)

    @property
    def region_patches(self) -> Int64Array:
        """Patches of each region: (rows, cols)."""
        return self.heights[:, None] * self.widths

    @property
    def region_boxes_px(self) -> Int64Array:
        """Each region as a box of pixels of the frame, clipped to it: (rows, cols, 4), xyxy."""
        rows, cols = self.shape
        top = np.arange(rows)[:, None] * self.side_px
        left = np.arange(cols)[None, :] * self.side_px
        bottom = np.minimum(top + self.side_px, self.height_px)
        right = np.minimum(left + self.side_px, self.width_px)
        return np.stack(np.broadcast_arrays(left, top, right, bottom), axis=-1)

    def check(self, downsample_mask: AnyTreatments) -> BoolMask:
        """Check that a mask fits this grid, and return it.

        Raises:
            UserError: the mask is not bool (rows, cols).
        """
        mask: NDArray[Any] = np.asarray(downsample_mask)
        if mask.dtype != np.bool_ or mask.shape != self.shape:
            raise UserError(
                f"downsample mask is {mask.dtype} {mask.shape}, but a {self.width_px}x{self.height_px} frame has "
                f"{self.shape[0]} x {self.shape[1]} regions of {self.side_px} px: give bool {self.shape}"
            )
        return mask

    def treatments(self, regions: AnyTreatments) -> Treatments:
        """Check how regions are treated, and return it as int8 (rows, cols) of `Treatment`.

        Raises:
            UserError: it does not fit this grid, or all regions are cached, so that nothing would be sent.
        """
        if regions.dtype != np.int8:
            return self.check(regions).view(np.int8)
        if regions.shape != self.shape or not np.isin(regions, list(Treatment)).all():
            raise UserError(
                f"treatments {regions.shape} of regions: a {self.width_px}x{self.height_px} frame has {self.shape}, "
                "each 0 (full resolution), 1 (low) or 2 (cached)"
            )
        if (regions == Treatment.CACHED).all():
            raise UserError("all regions are cached: at least one has to be sent")
        return np.asarray(regions, np.int8)

    def full_tokens(self, regions: AnyTreatments) -> int:
        """Tokens of the regions that keep their resolution."""
        return int(self.region_patches[self.treatments(regions) == Treatment.FULL].sum())

    def low_tokens(self, regions: AnyTreatments) -> int:
        """Tokens of the downsampled regions."""
        return int(self.region_patches[self.treatments(regions) == Treatment.LOW].sum()) // self.factor**2

    def tokens(self, regions: AnyTreatments) -> int:
        """Tokens of both resolutions together, before the restoration point; cached regions have none there."""
        return self.full_tokens(regions) + self.low_tokens(regions)


class ModelGeometry(msgspec.Struct, frozen=True):
    """The geometry of a model's decision regions, which a client has to know to offload to it.

    Attributes:
        window: side of an attention window in tokens.
        factor: how much smaller a downsampled region is, along each axis.
        patch_px: side of a patch.
        restoration_points: the largest restoration point N; 0..N may be asked for.
    """

    window: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]
    factor: Annotated[int, msgspec.Meta(ge=1, le=MAX_FACTOR)]
    patch_px: Annotated[int, msgspec.Meta(ge=1, le=MAX_PATCH_PX)]
    restoration_points: Annotated[int, msgspec.Meta(ge=0, le=MAX_RESTORATION_POINTS)]

    def grid(self, width_px: int, height_px: int) -> RegionGrid:
        """Regions of frames of this size.

        Raises:
            UserError: a size that is not positive.
        """
        return RegionGrid(width_px, height_px, self.window, self.factor, self.patch_px)


def _extents(length: int, side: int) -> Int64Array:
    """Lengths of the parts of `length` cut every `side`; the last may be shorter."""
    return np.diff(np.append(np.arange(0, length, side), length))
