"""A library's vision transformer on frames some of whose regions are downsampled (paper, section III)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.detector.adapters.blocks import AdaptedBlock
from vitmalis.detector.adapters.parts import Parts
from vitmalis.detector.batched_layout import Mixed, Tokens
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.token_layout import TokenLayout, grid_layout
from vitmalis.errors import UserError
from vitmalis.regions.grid import ModelGeometry, RegionGrid
from vitmalis.types import BoolMask


class MixedResolutionViT(nn.Module):
    """Another library's model, its layers run at mixed resolution; made by `wrap`, for inference.

    The parameters are the library's own, without a copy; `state_dict` has their names after `model.`.

    Attributes:
        model: the library's model.
        window: side of a downsampled region in tokens.
        downsampling_factor: patches along the side of a low-resolution token.
        restoration_blocks: for each restoration point from 1 the block that is the first to see full resolution.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Parts,
        blocks: Iterable[AdaptedBlock],
        window: int,
        downsampling_factor: int,
        restoration_blocks: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.model = model
        self.window = window
        self.downsampling_factor = downsampling_factor
        self.restoration_blocks = restoration_blocks
        self._parts = parts
        self._blocks = tuple(blocks)  # not registered: their layers are those of `model`

    @property
    def embed_dim(self) -> int:
        """Number of channels of a token."""
        return self._parts.project.out_channels

    @property
    def geometry(self) -> ModelGeometry:
        """Geometry of the decision regions, which clients have to know."""
        points = len(self.restoration_blocks)
        return ModelGeometry(self.window, self.downsampling_factor, self._parts.patch_px, points)

    def region_grid(self, height_px: int, width_px: int) -> RegionGrid:
        """The decision regions of a frame: its `shape` is a mask's, `padded_height_px` and `padded_width_px` fit it."""
        return self.geometry.grid(width_px, height_px)

    def forward(
        self, images: Tensor, downsampled: BoolMask | Mixed | None = None, restoration_point: int = 0
    ) -> Tensor:
        """Map images to features of full resolution.

        Args:
            images: (B, 3, H, W), normalised as the model wants them, sides multiples of the patch; with a mask, of
                patch times downsampling factor (pad right and bottom to the sizes of `region_grid`).
            downsampled: which regions are downsampled: bool (rows, cols) of `region_grid(H, W)`, True for low
                resolution, in all of the images; or the layout made of such a mask, or of one for each image; None
                for no region.
            restoration_point: see `forward_patches`.

        Returns:
            (B, C, H / patch, W / patch): what the library's model gives, see `wrap`.

        Raises:
            UserError: sides or mask do not fit, or there is no such restoration point.
        """
        self._check_point(restoration_point)
        self._check_size(images, 1 if downsampled is None else self.downsampling_factor)
        if downsampled is None:
            return self._plain(images)
        if isinstance(downsampled, np.ndarray):
            downsampled = mixed_layout(self.region_grid(*images.shape[2:]), downsampled, images.device)
        return self.forward_patches(downsampled.cut(images), downsampled, restoration_point)

    def forward_patches(self, patches: Tensor, layout: Mixed, restoration_point: int) -> Tensor:
        """Map normalised patches of two resolutions to features of full resolution (paper, section III-B).

        Args:
            patches: (B, T, patch, patch, 3), in the order of the layout.
            layout: which regions are downsampled.
            restoration_point: 1 to N, the subset whose last block is the first to see full resolution; 0 enlarges
                the pixels before the backbone.

        Returns:
            (B, C, rows, cols) of the layout's grid of patches.

        Raises:
            UserError: there is no such restoration point.
        """
        self._check_point(restoration_point)
        if restoration_point == 0:
            return self._plain(layout.restore_pixels(patches))
        grid = layout.grid
        table = self._parts.positions(grid.patch_rows, grid.patch_cols)
        # Patches one above the other make an image that is one patch wide.
        tokens = self._project(patches.flatten(1, 2).permute(0, 3, 1, 2))[:, :, 0]  # (B, T, C)
        sequence, prefixed = self._sequence(tokens, None if table is None else layout.positions(table))
        first = self.restoration_blocks[restoration_point - 1]
        sequence = self._run(sequence, layout.attention, self._blocks[:first])
        # Class tokens belong to no region, so restoration leaves them alone.
        sequence = torch.cat([sequence[:, :prefixed], layout.restore(sequence[:, prefixed:])], dim=1)
        plain = grid_layout(grid.patch_rows, grid.patch_cols, self.window, patches.device)
        return self._map(self._run(sequence, plain, self._blocks[first:]), prefixed, plain)

    def _plain(self, images: Tensor) -> Tensor:
        """All blocks at full resolution."""
        tokens = self._project(images)  # (B, rows, cols, C)
        rows, cols = tokens.shape[1:3]
        table = self._parts.positions(rows, cols)
        sequence, prefixed = self._sequence(tokens.flatten(1, 2), None if table is None else table.flatten(0, 1))
        layout = grid_layout(rows, cols, self.window, images.device)
        return self._map(self._run(sequence, layout, self._blocks), prefixed, layout)

    def _project(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, C)."""
        return self._parts.after_project(self._parts.project(images).permute(0, 2, 3, 1))

    def _sequence(self, tokens: Tensor, positions: Tensor | None) -> tuple[Tensor, int]:
        """Add positions (T, C) to tokens (B, T, C) and put the prefix in front: (B, P + T, C), and P."""
        tokens = tokens if positions is None else tokens + positions
        prefix = self._parts.prefix()
        prefixed = 0
        if prefix is not None:
            prefixed = prefix.shape[1]
            tokens = torch.cat([prefix.expand(len(tokens), -1, -1), tokens], dim=1)
        return self._parts.before_blocks(tokens), prefixed

    def _run(self, sequence: Tensor, layout: Tokens, blocks: Iterable[AdaptedBlock]) -> Tensor:
        for block in blocks:
            sequence = block(sequence, layout)
        return sequence

    def _map(self, sequence: Tensor, prefixed: int, layout: TokenLayout) -> Tensor:
        """Tokens without their prefix as (B, C, rows, cols)."""
        tokens = self._parts.after_blocks(sequence[:, prefixed:])
        return tokens.unflatten(1, (layout.rows, layout.cols)).permute(0, 3, 1, 2)

    def _check_point(self, restoration_point: int) -> None:
        points = len(self.restoration_blocks)
        if not 0 <= restoration_point <= points:
            raise UserError(f"restoration point {restoration_point} does not exist; choose 0 to {points}")

    def _check_size(self, images: Tensor, factor: int) -> None:
        step = self._parts.patch_px * factor
        height, width = images.shape[2:]
        if height % step or width % step:
            raise UserError(
                f"images are {height}x{width} px, but both sides must be multiples of {step} px: pad right and bottom "
                f"to {-(-height // step) * step}x{-(-width // step) * step}"
            )
