"""Tokens of one frame, kept for the cached regions of the next (MaskVD, Eventful Transformers): docs/field.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import Displacements


@dataclass(frozen=True, slots=True, eq=False)
class CachedTokens:
    """The tokens of a frame where its resolution is restored.

    Attributes:
        grid: geometry of the frame.
        restoration_point: from 1.
        tokens: (patches, C) in raster order.
    """

    grid: RegionGrid
    restoration_point: int
    tokens: Tensor

    @property
    def bytes(self) -> int:
        """Memory that the tokens take."""
        return self.tokens.numel() * self.tokens.element_size()

    def moved(self, displacements: Displacements) -> CachedTokens:
        """Move what the regions show; a region takes its tokens from where its content was.

        Where the content was outside the frame, the nearest tokens are taken.

        Raises:
            UserError: the displacements are not those of the frame's regions.
        """
        grid, side = self.grid, self.grid.side
        if displacements.shape != (*grid.shape, 2):
            raise UserError(f"displacements {displacements.shape} of regions: a frame has {(*grid.shape, 2)}")
        if not displacements.any():
            return self
        by_patch = displacements.astype(np.int64).repeat(side, 0).repeat(side, 1)[: grid.patch_rows, : grid.patch_cols]
        rows, cols = np.indices((grid.patch_rows, grid.patch_cols)) - by_patch.transpose(2, 0, 1)
        source = rows.clip(0, grid.patch_rows - 1) * grid.patch_cols + cols.clip(0, grid.patch_cols - 1)
        index = torch.from_numpy(source.ravel()).to(self.tokens.device)
        return CachedTokens(grid, self.restoration_point, self.tokens.index_select(0, index))

    def check(self, grid: RegionGrid, restoration_point: int) -> None:
        """Raise `UserError` unless these tokens are of such frames, at this restoration point."""
        if (self.grid, self.restoration_point) != (grid, restoration_point):
            raise UserError(
                f"cached tokens of a {self.grid.width_px}x{self.grid.height_px} frame at restoration point "
                f"{self.restoration_point} do not fit a {grid.width_px}x{grid.height_px} frame at {restoration_point}"
            )
