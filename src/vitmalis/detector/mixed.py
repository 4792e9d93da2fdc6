"""Tokens of two resolutions in one sequence: the patch of each token, and the restoration of full resolution.

Paper, section III. A low-resolution token covers `factor` x `factor` patches. Nothing here is learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.token_layout import Rectangles, TokenLayout, make_layout
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.order import regions_by_shape
from vitmalis.regions.treatment import AnyTreatments, Treatment
from vitmalis.types import BoolMask


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Tokens of one resolution by row and column of that resolution's grid, each int64 (T,)."""

    rows: Tensor
    cols: Tensor

    def pick(self, grid: Tensor) -> Tensor:
        """Take the cells of the tokens out of a grid: (B, rows, cols, ...) to (B, T, ...)."""
        return grid[:, self.rows, self.cols]


@dataclass(frozen=True, slots=True, eq=False)
class MixedLayout:
    """The tokens of a frame some of whose regions are downsampled, or cached.

    Full-resolution tokens come first, then low-resolution ones. Within each, regions of equal shape follow each other
    in raster order, as do the tokens of a region: `attention.frame` says so rectangle by rectangle.

    Attributes:
        grid: geometry of the frame.
        attention: where the tokens lie, for the blocks.
        full, low: the tokens of each resolution.
        cached: the tokens of cached regions, which the sequence has only from the restoration point on.
        raster: int64 (patches,): for each patch of the frame in raster order its place in the restored sequence.
    """

    grid: RegionGrid
    attention: TokenLayout
    full: Cells
    low: Cells
    cached: Cells
    raster: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens in a frame, T."""
        return self.attention.tokens

    def cut(self, images: Tensor) -> Tensor:
        """Cut padded images (B, 3, H, W) into patches (B, T, patch, patch, 3), low ones averaged over the area."""
        low = F.avg_pool2d(images, self.grid.factor)
        return torch.cat([self.full.pick(self._tiles(images)), self.low.pick(self._tiles(low))], dim=1)

    def _tiles(self, images: Tensor) -> Tensor:
        side = self.grid.patch_px
        tiles = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, 3, rows, patch, cols, patch)
        return tiles.permute(0, 2, 4, 3, 5, 1)

    def inside(self) -> Tensor:
        """Which pixels of the patches begin inside the frame before padding: bool (T, patch, patch)."""
        parts = []
        for cells, factor in ((self.full, 1), (self.low, self.grid.factor)):
            at = torch.arange(self.grid.patch_px, device=self.raster.device)
            y = (cells.rows[:, None] * self.grid.patch_px + at) * factor
            x = (cells.cols[:, None] * self.grid.patch_px + at) * factor
            parts.append((y < self.grid.height_px)[:, :, None] & (x < self.grid.width_px)[:, None, :])
        return torch.cat(parts)

    def positions(self, table: Tensor) -> Tensor:
        """Absolute positions (T, C) from those of all patches (rows, cols, C): a low-resolution token has a mean."""
        factor = self.grid.factor
        low = table.unflatten(1, (-1, factor)).unflatten(0, (-1, factor)).mean(dim=(1, 3))
        return torch.cat([self.full.pick(table[None]), self.low.pick(low[None])], dim=1)[0]

    def restore(self, tokens: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Restore tokens (B, T, C) to full resolution and raster order (B, patches, C), bilinear inside each region.

        Cached regions take their tokens from `earlier`, those of an earlier frame in the same order and shape.

        Raises:
            UserError: there are cached regions, but no tokens of an earlier frame.
        """
        cached = tokens[:, :0]
        if len(self.cached.rows):
            if earlier is None:
                raise UserError("cached regions need the tokens of an earlier frame at the same restoration point")
            cached = self.cached.pick(earlier.unflatten(1, (self.grid.patch_rows, self.grid.patch_cols)))
        return self._restore(tokens, lambda regions: upsample(regions, self.grid.factor), cached)

    def restore_pixels(self, patches: Tensor) -> Tensor:
        """Restore patches (B, T, patch, patch, 3) to images (B, 3, H, W), bilinear inside each region.

        Raises:
            UserError: there are cached regions, of which no pixels are known.
        """
        if len(self.cached.rows):
            raise UserError("cached regions come back as tokens: choose a restoration point of at least 1")
        side, factor = self.grid.patch_px, self.grid.factor

        def enlarge(regions: Tensor) -> Tensor:  # (N, h, w, patch, patch, 3)
            images = upsample(regions.transpose(2, 3).flatten(3, 4).flatten(1, 2), factor)
            return images.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)

        tiles = self._restore(patches, enlarge, patches[:, :0]).unflatten(
            1, (self.grid.patch_rows, self.grid.patch_cols)
        )
        return tiles.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def _restore(self, cells: Tensor, enlarge: Callable[[Tensor], Tensor], cached: Tensor) -> Tensor:
        """Let `enlarge` map low regions (N, h, w, ...) to (N, h * factor, w * factor, ...), then sort all cells."""
        full, low = cells.split([len(self.full.rows), len(self.low.rows)], dim=1)
        parts, at = [full], 0
        for part in self.attention.frame:
            if part.coarse:
                regions = low[:, at : at + part.tokens].unflatten(1, part.shape).flatten(0, 1)
                parts.append(enlarge(regions).unflatten(0, (len(cells), -1)).flatten(1, 3))
                at += part.tokens
        return torch.cat([*parts, cached], dim=1).index_select(1, self.raster)


def upsample(regions: Tensor, factor: int) -> Tensor:
    """Enlarge N regions (N, h, w, C) to (N, h * factor, w * factor, C), bilinear, each on its own."""
    larger = F.interpolate(regions.permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear", align_corners=False)
    return larger.permute(0, 2, 3, 1)


def mixed_layout(grid: RegionGrid, regions: AnyTreatments, device: torch.device) -> MixedLayout:
    """The layout of regions as they are treated; recent layouts are cached.

    Args:
        grid: geometry of the frame.
        regions: how each is treated.
        device: where the index tensors live.

    Raises:
        UserError: the treatments do not fit the grid, or leave no token.
    """
    return _mixed_layout(grid, grid.treatments(regions).tobytes(), device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # as for `grid_layout`
def _mixed_layout(grid: RegionGrid, regions: bytes, device: torch.device) -> MixedLayout:
    treatments = np.frombuffer(regions, np.int8).reshape(grid.shape)
    low_mask = treatments == Treatment.LOW
    rows, cols, factor = grid.patch_rows, grid.patch_cols, grid.factor
    full = _regions(grid, treatments == Treatment.FULL, 1, device)
    low = _regions(grid, low_mask, factor, device)
    cached = _regions(grid, treatments == Treatment.CACHED, 1, device)
    restored = _cells([*full, *_regions(grid, low_mask, 1, device), *cached], device)
    # On each axis the coordinates of low-resolution tokens follow those of the patches.
    shifted = [Rectangles(part.row_at + rows, part.col_at + cols, coarse=True) for part in low]
    return MixedLayout(
        grid=grid,
        attention=make_layout([*full, *shifted], rows, cols, grid.window, factor),
        full=_cells(full, device),
        low=_cells(low, device),
        cached=_cells(cached, device),
        raster=(restored.rows * cols + restored.cols).argsort(),
    )


def _regions(grid: RegionGrid, chosen: BoolMask, factor: int, device: torch.device) -> list[Rectangles]:
    """The chosen regions as rectangles of tokens of `factor` patches a side, those of equal shape together."""
    found = []
    for group in regions_by_shape(grid, chosen):
        row_at = group.rows[:, None] * (grid.side // factor) + np.arange(group.height // factor)
        col_at = group.cols[:, None] * (grid.side // factor) + np.arange(group.width // factor)
        found.append(Rectangles(torch.as_tensor(row_at, device=device), torch.as_tensor(col_at, device=device)))
    return found


def _cells(parts: list[Rectangles], device: torch.device) -> Cells:
    none = [torch.empty(0, dtype=torch.int64, device=device)]
    rows = [part.row_at[:, :, None].expand(part.shape).flatten() for part in parts]
    cols = [part.col_at[:, None, :].expand(part.shape).flatten() for part in parts]
    return Cells(torch.cat(none + rows), torch.cat(none + cols))
