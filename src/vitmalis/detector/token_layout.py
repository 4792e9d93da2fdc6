"""Where tokens lie: in rectangles of the frame, and each in one slot of an attention window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rectangles:
    """Rectangles of equal shape, one after the other; the tokens of each are in raster order.

    Attributes:
        row_at: int64 (n, height): the row of each line of tokens, as relative positions count it.
        col_at: int64 (n, width): the column of each.
        coarse: these are low-resolution tokens; their coordinates count on where those of the patches end.
    """

    row_at: Tensor
    col_at: Tensor
    coarse: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many rectangles, and the height and width of each in tokens."""
        return (*self.row_at.shape, self.col_at.shape[1])

    @property
    def tokens(self) -> int:
        """Number of tokens in all rectangles."""
        return self.row_at.numel() * self.col_at.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class TokenLayout:
    """The tokens of a frame and their places in windows: all geometry that blocks know.

    Attributes:
        rows, cols: the grid of full-resolution patches that the tokens cover.
        window: side of a window.
        factor: patches along the side of a low-resolution token; 0 where there are none.
        frame: the rectangles that the tokens fall into, in the order of the tokens.
        in_window: the same for the slots of one window.
        slot_token: int64 (windows * window * window,): the token in each slot, or the number of tokens where none is.
        token_slot: int64 (tokens,): the slot that holds each token.
        empty_slot: int64 (slots - tokens,): the slots that hold none. Indices, as a mask of them would have to be
            searched in every block, which on a GPU the host waits for.
    """

    rows: int
    cols: int
    window: int
    factor: int
    frame: tuple[Rectangles, ...]
    in_window: tuple[Rectangles, ...]
    slot_token: Tensor
    token_slot: Tensor
    empty_slot: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens in a frame."""
        return len(self.token_slot)

    @property
    def frames(self) -> Sequence[tuple[Rectangles, ...]]:
        """The rectangles of the frames in a batch; one entry, as all frames are alike."""
        return (self.frame,)

    def window_partition(self, tokens: Tensor, fill: Tensor) -> Tensor:
        """Gather tokens into windows: (B, T, C) to (B * windows, window * window, C), empty slots hold `fill` (C,)."""
        windows = tokens.index_select(1, self.slot_token.clamp(max=self.tokens - 1))
        if len(self.empty_slot):
            windows[:, self.empty_slot] = fill
        return windows.reshape(-1, self.window * self.window, tokens.shape[2])

    def window_unpartition(self, windows: Tensor, batch: int) -> Tensor:
        """Put tokens back in their order: (B * windows, window * window, C) to (B, T, C)."""
        return windows.reshape(batch, len(self.slot_token), -1).index_select(1, self.token_slot)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a layout made while predicting must serve training as well
def grid_layout(rows: int, cols: int, window: int, device: torch.device) -> TokenLayout:
    """One rectangle: the tokens of a plain ViT, in raster order."""
    return make_layout([grid_rectangle(rows, cols, device)], rows, cols, window)


def grid_rectangle(rows: int, cols: int, device: torch.device) -> Rectangles:
    """A rectangle that starts at row and column 0."""
    return Rectangles(torch.arange(rows, device=device)[None], torch.arange(cols, device=device)[None])


def make_layout(frame: Sequence[Rectangles], rows: int, cols: int, window: int, factor: int = 0) -> TokenLayout:
    """Number the tokens of all rectangles and cut each rectangle into windows from its top left.

    Windows at the far borders of a rectangle are padded with empty slots, as detectron2 does for the whole frame.
    """
    device = frame[0].row_at.device
    tokens = sum(part.tokens for part in frame)
    ids = torch.arange(tokens, device=device).split([part.tokens for part in frame])
    tiles = []
    for part, own in zip(frame, ids, strict=True):
        _, height, width = part.shape
        padded = F.pad(own.view(part.shape), (0, -width % window, 0, -height % window), value=tokens)
        cut = padded.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # (n, down, window, across, window)
        tiles.append(cut.transpose(2, 3).flatten())
    slot_token = torch.cat(tiles)
    is_empty = slot_token == tokens
    filled = (~is_empty).nonzero().flatten()
    token_slot = torch.empty(tokens, dtype=torch.int64, device=device)
    token_slot[slot_token[filled]] = filled
    in_window = (grid_rectangle(window, window, device),)
    empty = is_empty.nonzero().flatten()
    return TokenLayout(rows, cols, window, factor, tuple(frame), in_window, slot_token, token_slot, empty)
