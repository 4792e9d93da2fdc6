"""Batches of frames with different masks, possible where their numbers of tokens agree.

Each frame keeps the layout of its own mask. The windows of all frames are gathered together, however many a frame has,
and attention over whole frames needs an equal number of tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitmalis.detector.mixed import MixedLayout
from vitmalis.detector.token_layout import Rectangles, TokenLayout
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Where the tokens of B frames lie, T in each; the counterpart of `TokenLayout` for batches.

    Attributes:
        rows, cols, window, factor, in_window: as of `TokenLayout`, the same for all frames.
        frames: for each frame the rectangles that its tokens fall into.
        slot_token: int64 (windows of all frames * window * window,): the token in each slot, counted through the
            batch, or B * T where none is.
        token_slot: int64 (B * T,): the slot that holds each token.
    """

    rows: int
    cols: int
    window: int
    factor: int
    frames: tuple[tuple[Rectangles, ...], ...]
    in_window: tuple[Rectangles, ...]
    slot_token: Tensor
    token_slot: Tensor

    @classmethod
    def of(cls, layouts: Sequence[TokenLayout]) -> TokenBatch:
        """The batch of frames with these layouts, equal in everything but `frame`, `slot_token` and `token_slot`."""
        first, tokens = layouts[0], layouts[0].tokens
        slot_token, token_slot, before = [], [], 0
        for index, layout in enumerate(layouts):
            empty = layout.slot_token == tokens
            slot_token.append(torch.where(empty, len(layouts) * tokens, layout.slot_token + index * tokens))
            token_slot.append(layout.token_slot + before)
            before += len(layout.slot_token)
        return cls(
            rows=first.rows,
            cols=first.cols,
            window=first.window,
            factor=first.factor,
            frames=tuple(layout.frame for layout in layouts),
            in_window=first.in_window,
            slot_token=torch.cat(slot_token),
            token_slot=torch.cat(token_slot),
        )

    def window_partition(self, tokens: Tensor, fill: Tensor) -> Tensor:
        """Gather tokens into windows: (B, T, C) to (windows, window * window, C), empty slots hold `fill` (C,)."""
        listed = tokens.flatten(0, 1)
        if len(self.slot_token) > len(self.token_slot):
            listed = torch.cat([listed, fill[None]])
        return listed.index_select(0, self.slot_token).unflatten(0, (-1, self.window * self.window))

    def window_unpartition(self, windows: Tensor, batch: int) -> Tensor:
        """Put tokens back in their order: (windows, window * window, C) to (B, T, C)."""
        return windows.flatten(0, 1).index_select(0, self.token_slot).unflatten(0, (batch, -1))


@dataclass(frozen=True, slots=True, eq=False)
class MixedBatch:
    """The layouts of B frames of equal size and number of tokens T; the counterpart of `MixedLayout`.

    Attributes:
        layouts: of each frame.
        attention: where the tokens lie, for the blocks.
    """

    layouts: tuple[MixedLayout, ...]
    attention: TokenBatch

    @classmethod
    def of(cls, layouts: Sequence[MixedLayout]) -> MixedBatch:
        """The batch of frames with these layouts.

        Raises:
            UserError: their grids or their numbers of tokens differ.
        """
        if len({(layout.grid, layout.tokens) for layout in layouts}) != 1:
            sizes = ", ".join(f"{x.grid.width_px}x{x.grid.height_px} with {x.tokens} tokens" for x in layouts)
            raise UserError(f"only frames of one size and number of tokens make a batch, not {sizes or 'none'}")
        return cls(tuple(layouts), TokenBatch.of([layout.attention for layout in layouts]))

    @property
    def grid(self) -> RegionGrid:
        """Geometry of the decision regions of all frames."""
        return self.layouts[0].grid

    @property
    def tokens(self) -> int:
        """Number of tokens T of each frame."""
        return self.layouts[0].tokens

    def cut(self, images: Tensor) -> Tensor:
        """Cut padded images (B, 3, H, W) into patches (B, T, patch, patch, 3), each by its own layout."""
        return torch.cat([layout.cut(image) for layout, image in zip(self.layouts, images.split(1), strict=True)])

    def inside(self) -> Tensor:
        """Which pixels of the patches begin inside the frame before padding: bool (B, T, patch, patch)."""
        return torch.stack([layout.inside() for layout in self.layouts])

    def positions(self, table: Tensor) -> Tensor:
        """Absolute positions (B, T, C) from those of all patches (rows, cols, C)."""
        return torch.stack([layout.positions(table) for layout in self.layouts])

    def restore(self, tokens: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Restore tokens (B, T, C) to full resolution and raster order (B, patches, C), as of `MixedLayout`."""
        before = [None] * len(tokens) if earlier is None else earlier.split(1)
        frames = zip(self.layouts, tokens.split(1), before, strict=True)
        return torch.cat([layout.restore(own, old) for layout, own, old in frames])

    def restore_pixels(self, patches: Tensor) -> Tensor:
        """Restore patches (B, T, patch, patch, 3) to images (B, 3, H, W)."""
        own = zip(self.layouts, patches.split(1), strict=True)
        return torch.cat([layout.restore_pixels(part) for layout, part in own])


Tokens = TokenLayout | TokenBatch
"""Where the tokens of a batch lie: in all frames alike, or in each differently."""

Mixed = MixedLayout | MixedBatch
"""Which regions are downsampled: the same in all frames, or others in each."""
