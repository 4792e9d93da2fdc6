"""How the candidates of a frame treat its regions, and candidates that have the unchanged ones cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import Candidates
from vitmalis.estimation.features import DOWNSAMPLING_TYPES
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy.base import ClientState
from vitmalis.policy.estimates import ContentEstimates
from vitmalis.policy.region_caching import CacheableFrame, RegionCaching
from vitmalis.policy.region_change import PIXELS_PER_TOKEN, Reduced
from vitmalis.policy.regions import decision_of
from vitmalis.regions import RegionGrid
from vitmalis.regions.classify import downsample_mask
from vitmalis.regions.treatment import Treatment, Treatments
from vitmalis.types import BoolMask

Float64Array = NDArray[np.float64]

CACHED_F1_LOSS = 0.1
"""What F1 would be less with all regions cached (docs/field.md)."""
FLAT_TEXTURE = 4.0
"""Texture that costs as many bytes as a pixel without any, grey levels: sizes were least off so (docs/field.md)."""


class CandidateTreatments:
    """The treatments of the regions of one frame by each candidate.

    Args:
        region_types: `RegionType` of each region (rows, cols).
        frame: what of the frame may be cached; None if no candidate has anything cached.
        caching_point: restoration point at which tokens are cached of a frame that has nothing to restore.
        f1_loss: what F1 would be less with all regions cached.
    """

    def __init__(
        self,
        region_types: NDArray[np.int8],
        frame: CacheableFrame | None = None,
        caching_point: int = 0,
        f1_loss: float = 0.0,
    ) -> None:
        self.frame = frame
        self._region_types, self._caching_point, self._f1_loss = region_types, caching_point, f1_loss
        low = [downsample_mask(region_types, tau_d) for tau_d in DOWNSAMPLING_TYPES]
        self._caching = [TokenCaching() if frame is None else frame.caching(mask) for mask in low]
        self._treatments = np.array([_treatments(*each) for each in zip(low, self._caching, strict=True)])

    def decision(self, candidates: Candidates, index: int) -> OffloadDecision:
        """The decision for the candidate at `index`, with its tokens cached unless resolution is restored before."""
        configuration, cached = candidates.configuration(index), bool(candidates.cached[index])
        if self.frame is None or (configuration.tau_d and not configuration.restoration_point):
            return decision_of(configuration, self._region_types)
        if not (configuration.tau_d or cached):
            configuration = replace(configuration, restoration_point=self._caching_point)
        caching = self._caching[configuration.tau_d] if cached else TokenCaching()
        return decision_of(configuration, self._region_types, caching)

    def low_and_cached(self, candidates: Candidates) -> tuple[Float64Array, Float64Array]:
        """Numbers of regions at low resolution, and of cached ones, (n,) each."""
        treatments = self._of(candidates)
        low, cached = ((treatments == way).sum((1, 2), np.float64) for way in (Treatment.LOW, Treatment.CACHED))
        return low, cached

    def with_cached(self, known: ContentEstimates) -> ContentEstimates:
        """Add candidates that have the unchanged regions cached, if the server has their tokens.

        They are those of the restoration point at which these are. Estimates follow from those of the same
        configurations without cached regions: of the payload as much is left as the sent regions have of its texture,
        and F1 is less in proportion to the number of cached regions.
        """
        if self.frame is None or self.frame.base is None:
            return known
        point = self.frame.base[0].restoration_point
        candidates = known.candidates
        restored_there = (candidates.tau_d == 0) | (candidates.restoration_point == point)
        some_cached = (self._treatments[:, 1] == Treatment.CACHED).any((1, 2))[candidates.tau_d]
        plain = known.where(restored_there & some_cached)
        points = np.full_like(plain.candidates.tau_d, point)
        cached = replace(plain.candidates, restoration_point=points, cached=np.ones(len(points), bool))
        texture = region_texture(self.frame.image, self.frame.grid)
        left, whole = (self._texture_sent(each, texture) for each in (cached, plain.candidates))
        loss = self._f1_loss * self.low_and_cached(cached)[1] / self._region_types.size
        estimates = ContentEstimates(
            cached, plain.payload_bytes * left / whole, np.maximum(plain.f1 - loss, 0.0), plain.f1_error
        )
        return known.with_more(estimates)

    def _of(self, candidates: Candidates) -> NDArray[np.int8]:
        """Treatments of each candidate (n, rows, cols)."""
        return self._treatments[candidates.tau_d, candidates.cached.astype(np.int64)]

    def _texture_sent(self, candidates: Candidates, texture: Float64Array) -> Float64Array:
        """Texture of what each candidate sends (n,), at low resolution as much less as there are fewer pixels."""
        factor = self.frame.grid.factor if self.frame else 1
        sent = np.array([1.0, 1.0 / factor**2, 0.0])[self._of(candidates)]
        return np.asarray((sent * texture).sum((1, 2)), np.float64)


class CandidateCaching(RegionCaching):
    """Has the unchanged regions of each candidate cached, as a choice; options are those of a policy.

    Args:
        change_threshold, reach, refresh_s: as of `RegionCaching`.
        restoration_points: of the configuration space; tokens of a frame with nothing to restore are cached at the
            last.
        f1_loss: what F1 would be less with all regions cached.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self, change_threshold: float, reach: int, refresh_s: float, restoration_points: Sequence[int], f1_loss: float
    ) -> None:
        super().__init__(change_threshold, reach, refresh_s)
        if not 0 <= f1_loss <= 1:
            raise UserError(f"policy.cached_f1_loss={f1_loss}: give a difference of F1 from 0 to 1")
        self._point, self._f1_loss = max(restoration_points), f1_loss
        if self._point < 1:
            raise UserError(f"policy.restoration_points={list(restoration_points)}: tokens are cached from 1 on")

    def treatments(self, state: ClientState, region_types: NDArray[np.int8]) -> CandidateTreatments:
        """How candidates treat the regions of a frame, with and without cached ones."""
        return CandidateTreatments(region_types, self.frame(state), self._point, self._f1_loss)


def region_texture(image: Reduced, grid: RegionGrid) -> Float64Array:
    """Texture of each region (rows, cols): the differences of adjacent pixels and `FLAT_TEXTURE`, over its pixels."""
    grey = image.astype(np.float64)
    texture = np.full_like(grey, FLAT_TEXTURE)
    texture[:, 1:] += np.abs(np.diff(grey, axis=1))
    texture[1:] += np.abs(np.diff(grey, axis=0))
    side = grid.side * PIXELS_PER_TOKEN
    by_row = np.add.reduceat(texture, np.arange(0, grey.shape[0], side), axis=0)
    return np.add.reduceat(by_row, np.arange(0, grey.shape[1], side), axis=1)


def _treatments(low: BoolMask, caching: TokenCaching) -> tuple[Treatments, Treatments]:
    """Treatments of a frame with these low regions, without cached ones and with them."""
    plain = low.astype(np.int8)
    return plain, plain if caching.mask is None else np.where(caching.mask, np.int8(Treatment.CACHED), plain)
