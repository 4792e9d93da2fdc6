"""Content of a frame as a policy sees it: motion, task relevance and type of every region (paper, section IV-B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy.base import ClientState
from vitmalis.regions import Motion, RegionType, classify, region_uncertainty, task_relevance
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD, downsample_mask
from vitmalis.types import Configuration


@dataclass(frozen=True, slots=True, eq=False)
class FrameContent:
    """Content of a frame, by decision region.

    Attributes:
        motion: m_j and m_f; zeros before the first analysis.
        relevance: rho_j, float64 (rows, cols).
        uncertainty: u_j, float64 (rows, cols), see `region_uncertainty`.
        region_types: int8 (rows, cols) of `RegionType`.
    """

    motion: Motion
    relevance: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    region_types: NDArray[np.int8]


class RegionClassifier:
    """Classifies regions by the paper's thresholds; until motion and a result are known, every region is a DOR.

    Args:
        motion_threshold, relevance_threshold: delta^m and delta^rho.

    Raises:
        UserError: a threshold is negative.
    """

    def __init__(
        self, motion_threshold: float = MOTION_THRESHOLD, relevance_threshold: float = RELEVANCE_THRESHOLD
    ) -> None:
        for name, value in (("motion", motion_threshold), ("relevance", relevance_threshold)):
            if value < 0:
                raise UserError(f"policy.{name}_threshold={value}: give a number that is not negative")
        self._thresholds = motion_threshold, relevance_threshold

    def classify(self, state: ClientState) -> FrameContent:
        """Describe the frame about to be offloaded, from what the device knows."""
        relevance, uncertainty = (of(state.grid, state.tracked) for of in (task_relevance, region_uncertainty))
        if state.motion is None or not state.results:
            motion = state.motion or Motion(np.zeros(state.grid.shape, np.float32), 0.0)
            return FrameContent(motion, relevance, uncertainty, np.full(state.grid.shape, RegionType.DOR, np.int8))
        types = classify(state.motion.region_motion, relevance, *self._thresholds)
        return FrameContent(state.motion, relevance, uncertainty, types)


def decision_of(
    configuration: Configuration, region_types: NDArray[np.int8], caching: TokenCaching | None = None
) -> OffloadDecision:
    """Return the decision for a configuration in a frame; without regions to downsample, tau_d is 0.

    Nothing is to be restored then either, unless the frame's tokens are to be cached at the restoration point.

    Args:
        configuration: what is to be sent of regions that are not cached.
        region_types: `RegionType` of each region (rows, cols).
        caching: whether tokens are cached, and which regions take theirs from an earlier frame.
    """
    mask = downsample_mask(region_types, configuration.tau_d)
    if caching is not None and caching.mask is not None:
        mask = mask & ~caching.mask
    if mask.any():
        return OffloadDecision(configuration, mask, caching=caching)
    point = 0 if caching is None else configuration.restoration_point
    plain = Configuration(quality=configuration.quality, tau_d=0, restoration_point=point)
    return OffloadDecision(plain, caching=caching)
