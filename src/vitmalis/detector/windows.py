"""Which token sits in which slot of which attention window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TokenLayout:
    """The tokens of a frame and their place in windows; blocks know nothing else about geometry.

    Attributes:
        rows, cols: the token grid; tokens are in raster order.
        window: side of a window.
        slots: int64 (windows * window * window,): the token in each slot, or the number of tokens where none is.
        homes: int64 (tokens,): the slot that holds each token.
    """

    rows: int
    cols: int
    window: int
    slots: Tensor
    homes: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.homes)

    def to_windows(self, tokens: Tensor, fill: Tensor) -> Tensor:
        """Gather tokens into windows: (B, T, C) to (B * windows, window * window, C), empty slots hold `fill` (C,)."""
        batch, _, width = tokens.shape
        if len(self.slots) > self.tokens:
            tokens = torch.cat([tokens, fill.expand(batch, 1, width)], dim=1)
        return tokens.index_select(1, self.slots).reshape(-1, self.window * self.window, width)

    def from_windows(self, windows: Tensor, batch: int) -> Tensor:
        """Put tokens back in their order: (B * windows, window * window, C) to (B, T, C)."""
        return windows.reshape(batch, len(self.slots), -1).index_select(1, self.homes)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a layout made while predicting must serve training as well
def grid_layout(rows: int, cols: int, window: int, device: torch.device) -> TokenLayout:
    """Cut a grid into windows from the top left; those at the far borders are filled up, as upstream does."""
    index = torch.arange(rows * cols, device=device).view(rows, cols)
    padded = F.pad(index, (0, -cols % window, 0, -rows % window), value=rows * cols)
    tiles = padded.unflatten(1, (-1, window)).unflatten(0, (-1, window))  # (down, window, across, window)
    slots = tiles.transpose(1, 2).flatten()
    filled = (slots < rows * cols).nonzero().flatten()
    homes = torch.empty(rows * cols, dtype=torch.int64, device=device)
    homes[slots[filled]] = filled
    return TokenLayout(rows, cols, window, slots, homes)
