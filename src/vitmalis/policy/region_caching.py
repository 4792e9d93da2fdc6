"""Which regions of a frame can come from tokens that the server has cached: for every policy that caches regions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.policy.base import CachedFrame, ClientState
from vitmalis.policy.region_change import Reduced, by_region, least_changes, moved, reduced
from vitmalis.regions import RegionGrid
from vitmalis.types import BoolMask, Displacements

CHANGE_THRESHOLD = 8.0
REACH = 1
REFRESH_S = 2.0
"""Default options of `RegionCaching`."""

_FRAMES = 3
"""Offloaded frames that are remembered: with two in flight, the cached one may be the last but one."""


@dataclass(frozen=True, slots=True, eq=False)
class CachedContent:
    """What the tokens that the server has cached after an offload show.

    Attributes:
        image: the pixels that each region's tokens were made from, moved with them.
        sent_s: when these were sent, seconds of the run (rows, cols).
        low: where they were sent at low resolution, bool (rows, cols).
    """

    image: Reduced
    sent_s: NDArray[np.float64]
    low: BoolMask

    def after(self, frame: CacheableFrame, decision: OffloadDecision) -> CachedContent:
        """The next frame, whose cached regions have the pixels of this one, displaced."""
        caching, sent = decision.caching, CachedContent.sent(frame, decision)
        if caching is None or caching.mask is None or caching.displacements is None:
            return sent
        content, cached = frame.image.copy(), caching.mask
        for step in np.unique(caching.displacements[cached], axis=0).tolist():
            here = by_region(cached & (caching.displacements == step).all(-1), frame.grid)
            content[here] = moved(self.image, (step[0], step[1]))[here]
        return CachedContent(content, np.where(cached, self.sent_s, sent.sent_s), np.where(cached, self.low, sent.low))

    @classmethod
    def sent(cls, frame: CacheableFrame, decision: OffloadDecision) -> CachedContent:
        """A frame without cached regions."""
        low = np.zeros(frame.grid.shape, bool) if decision.downsample_mask is None else decision.downsample_mask
        return cls(frame.image, np.full(frame.grid.shape, frame.time_s), low)


@dataclass(frozen=True, slots=True, eq=False)
class CacheableFrame:
    """A frame about to be offloaded, and what of it tokens that the server has cached still show.

    Attributes:
        frame_index, time_s, grid: of the frame.
        image: the frame, reduced.
        base: the offload that has these tokens, and what they show; None where the server has none.
        changes: difference of each region from these, grey levels (rows, cols); of no meaning without a base.
        unchanged: which regions may be cached, bool (rows, cols); none without a base.
        displacements: how far the content of each has moved since.
    """

    frame_index: int
    time_s: float
    grid: RegionGrid
    image: Reduced
    base: tuple[CachedFrame, CachedContent] | None
    changes: NDArray[np.float64]
    unchanged: BoolMask
    displacements: Displacements

    def caching(self, low: BoolMask | None = None) -> TokenCaching:
        """Have the frame's tokens cached, and those of an earlier frame taken where that is possible.

        Args:
            low: regions that would else be sent at low resolution, bool (rows, cols). Tokens that were made from low
                resolution are taken for these only; for any region if it is None.
        """
        if self.base is None:
            return TokenCaching()
        earlier, content = self.base
        cached = self.unchanged if low is None else self.unchanged & (low | ~content.low)
        if cached.all():  # at least one region has to be sent
            cached = cached.copy()
            cached.flat[int(self.changes.argmax())] = False
        return TokenCaching(earlier.offload_id, cached, self.displacements)


class RegionCaching:
    """Remembers what the tokens show that a server has cached, and compares each frame with it.

    A region may be cached if no token of it differs by more than a threshold from the pixels that the cached tokens
    were made from, where they are or a few whole tokens away, and if it was sent less than `refresh_s` ago. For
    `refresh_s` after a server has not cached what it was asked to, nothing is: it has no room, or a model whose tokens
    cannot be cached.

    Args:
        change_threshold: largest difference of a token's mean grey level at which its region is unchanged, 0..255.
        reach: most tokens that content may have moved along each axis.
        refresh_s: a region is sent at least so often.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, change_threshold: float, reach: int, refresh_s: float) -> None:
        for name, value, valid, allowed in (
            ("change_threshold", change_threshold, 0 <= change_threshold <= 255, "grey levels from 0 to 255"),
            ("reach", reach, 0 <= reach <= 8, "a number of tokens from 0 to 8"),
            ("refresh_s", refresh_s, refresh_s > 0, "a positive number of seconds"),
        ):
            if not valid:
                raise UserError(f"policy.{name}={value}: give {allowed}")
        self._change_threshold, self._reach, self._refresh_s = change_threshold, reach, refresh_s
        self._contents: OrderedDict[int, CachedContent] = OrderedDict()  # after recent offloads, by frame
        self._asked_s = 0.0  # when a frame was last sent to be cached
        self._paused_until_s = 0.0

    def frame(self, state: ClientState) -> CacheableFrame | None:
        """Compare a frame with what is cached; None without its image, and while the server caches nothing."""
        if state.image is None or state.time_s < self._paused_until_s:
            return None
        grid, image, base = state.grid, reduced(state.image, state.grid), state.cached_frame
        content = None if base is None else self._contents.get(base.frame_index)
        if base is None or content is None:
            nothing = np.zeros(grid.shape), np.zeros(grid.shape, bool), np.zeros((*grid.shape, 2), np.int8)
            return CacheableFrame(state.frame_index, state.time_s, grid, image, None, *nothing)
        changes, displacements = least_changes(image, content.image, grid, self._reach)
        unchanged = (changes <= self._change_threshold) & (state.time_s - content.sent_s < self._refresh_s)
        found = changes, unchanged, displacements
        return CacheableFrame(state.frame_index, state.time_s, grid, image, (base, content), *found)

    def send(self, frame: CacheableFrame, decision: OffloadDecision) -> None:
        """Remember what its tokens will show, if the frame is sent to be cached."""
        if decision.caching is None:
            return
        self._asked_s = frame.time_s
        sent = CachedContent.sent(frame, decision) if frame.base is None else frame.base[1].after(frame, decision)
        self._contents[frame.frame_index] = sent
        if len(self._contents) > _FRAMES:
            self._contents.popitem(last=False)

    def observe(self, outcome: OffloadOutcome) -> None:
        """Pause for a while where the server has not cached what it was asked to."""
        if outcome.decision.caching and not outcome.tokens_cached:
            self._paused_until_s = self._asked_s + self._refresh_s
