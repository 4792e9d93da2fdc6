"""MaskVD's and Eventful Transformers' idea: what did not change comes from tokens that the server has cached."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.policy.base import ClientState
from vitmalis.policy.fixed import Fixed
from vitmalis.policy.region_change import Reduced, by_region, least_changes, moved, reduced
from vitmalis.regions import RegionGrid
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD
from vitmalis.types import BoolMask, Configuration, Displacements

_FRAMES = 3
"""Offloaded frames that are remembered: with two in flight, the cached one may be the last but one."""


@dataclass(frozen=True, slots=True, eq=False)
class CachedContent:
    """What the tokens that the server has cached after an offload show.

    Attributes:
        image: the pixels that each region's tokens were made from, moved with them.
        sent_s: when these were sent, seconds of the run (rows, cols).
    """

    image: Reduced
    sent_s: NDArray[np.float64]

    @classmethod
    def of_frame(cls, image: Reduced, grid: RegionGrid, time_s: float) -> CachedContent:
        """A frame that is sent whole."""
        return cls(image, np.full(grid.shape, time_s))

    def followed_by(
        self, image: Reduced, grid: RegionGrid, time_s: float, cached: BoolMask, displacements: Displacements
    ) -> CachedContent:
        """The next frame, whose cached regions (rows, cols) have the pixels of this one, displaced."""
        content = image.copy()
        for step in np.unique(displacements[cached], axis=0).tolist():
            here = by_region(cached & (displacements == step).all(-1), grid)
            content[here] = moved(self.image, (step[0], step[1]))[here]
        return CachedContent(content, np.where(cached, self.sent_s, time_s))


class Cached(Fixed):
    """Sends what changed, with one configuration, and has all other regions taken from cached tokens.

    A region is cached if no token of it differs by more than a threshold from the pixels that the cached tokens were
    made from, where they are or a few whole tokens away, and if it was sent less than `refresh_s` ago. A frame is sent
    whole, at full resolution, while the server has no tokens: first, and after an offload that failed. What else is
    sent is treated as by `Fixed`, as is everything for `refresh_s` after a server has not cached what it was asked to:
    it has no room, or a model whose tokens cannot be cached.

    Args:
        tau_d, quality, restoration_point, motion_threshold, relevance_threshold: as of `Fixed`; cached regions
            come back at the restoration point, too, so it is at least 1.
        change_threshold: largest difference of a token's mean grey level at which its region is cached, 0..255.
        reach: most tokens that content may have moved along each axis.
        refresh_s: a region is sent at least so often.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        tau_d: int = 1,
        quality: int = 75,
        restoration_point: int = 4,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        *,
        change_threshold: float = 8.0,
        reach: int = 1,
        refresh_s: float = 2.0,
    ) -> None:
        super().__init__(tau_d, quality, restoration_point, motion_threshold, relevance_threshold)
        if restoration_point < 1:
            raise UserError(f"policy.restoration_point={restoration_point}: tokens are cached from 1 on")
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

    def decide(self, state: ClientState) -> OffloadDecision:
        """Cache the regions that did not change, and treat the others as configured."""
        plain = super().decide(state)
        if state.image is None or state.time_s < self._paused_until_s:
            return plain
        self._asked_s = state.time_s
        image = reduced(state.image, state.grid)
        base = state.cached_frame
        earlier = None if base is None else self._contents.get(base.frame_index)
        if base is None or earlier is None:
            self._remember(state, CachedContent.of_frame(image, state.grid, state.time_s))
            return self._decision(plain, TokenCaching())
        changes, displacements = least_changes(image, earlier.image, state.grid, self._reach)
        cached = (changes <= self._change_threshold) & (state.time_s - earlier.sent_s < self._refresh_s)
        if cached.all():
            cached.flat[int(changes.argmax())] = False
        self._remember(state, earlier.followed_by(image, state.grid, state.time_s, cached, displacements))
        return self._decision(plain, TokenCaching(base.offload_id, cached, displacements))

    def observe(self, outcome: OffloadOutcome) -> None:
        """Ask for nothing to be cached for a while where the server did not do so."""
        super().observe(outcome)
        if outcome.decision.caching and not outcome.tokens_cached:
            self._paused_until_s = self._asked_s + self._refresh_s

    def _decision(self, plain: OffloadDecision, caching: TokenCaching) -> OffloadDecision:
        """The plain decision with cached regions, or with all regions full where it has its tokens cached only."""
        low = plain.downsample_mask
        if low is not None:
            low = None if caching.mask is None else low & ~caching.mask
        tau_d = plain.configuration.tau_d if low is not None and low.any() else 0
        chosen = Configuration(tau_d, self._configuration.quality, self._configuration.restoration_point)
        return OffloadDecision(chosen, low if tau_d else None, caching=caching)

    def _remember(self, state: ClientState, content: CachedContent) -> None:
        self._contents[state.frame_index] = content
        if len(self._contents) > _FRAMES:
            self._contents.popitem(last=False)
