"""Content of a frame as a policy sees it: motion, task relevance and type of every region (paper, section IV-B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.policy.base import ClientState
from vitmalis.regions import Motion, RegionType, classify, region_uncertainty, task_relevance
from vitmalis.regions.classify import MOTION_THRESHOLD, RELEVANCE_THRESHOLD, downsample_mask
from vitmalis.types import Configuration

FirstFrame = Literal["full", "low"]
"""How frames are treated before the first result, when no region is known to hold an object, or none."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameContent:
    """Content of a frame, by decision region.

    Attributes:
        motion: m_j and m_f; zeros before the first analysis.
        relevance: rho_j, float64 (rows, cols).
        uncertainty: u_j, float64 (rows, cols), see `region_uncertainty`.
        region_types: int8 (rows, cols) of `RegionType`.
        known: whether the types follow from motion and objects; without either they are the same for every region.
    """

    motion: Motion
    relevance: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    region_types: NDArray[np.int8]
    known: bool = True


class RegionClassifier:
    """Classifies regions by the paper's thresholds; until motion and a result are known, every region is a DOR.

    Args:
        motion_threshold, relevance_threshold: delta^m and delta^rho.
        first_frame: "low" makes every region an SBR until there is a result, so that a frame can be sent at low
            resolution throughout, for boxes that are there sooner (as DDS does); not in the paper.

    Raises:
        UserError: a threshold is negative, or there is no such treatment of the first frame.
    """

    def __init__(
        self,
        motion_threshold: float = MOTION_THRESHOLD,
        relevance_threshold: float = RELEVANCE_THRESHOLD,
        first_frame: FirstFrame = "full",
    ) -> None:
        for name, value in (("motion", motion_threshold), ("relevance", relevance_threshold)):
            if value < 0:
                raise UserError(f"policy.{name}_threshold={value}: give a number that is not negative")
        if first_frame not in get_args(FirstFrame):
            raise UserError(f"policy.first_frame={first_frame}: choose one of {', '.join(get_args(FirstFrame))}")
        self._thresholds = motion_threshold, relevance_threshold
        self._unknown = RegionType.SBR if first_frame == "low" else RegionType.DOR

    def classify(self, state: ClientState) -> FrameContent:
        """Describe the frame about to be offloaded, from what the device knows."""
        relevance, uncertainty = (of(state.grid, state.tracked) for of in (task_relevance, region_uncertainty))
        if state.motion is None or not state.results:
            motion = state.motion or Motion(np.zeros(state.grid.shape, np.float32), 0.0)
            unknown = RegionType.DOR if state.results else self._unknown
            types = np.full(state.grid.shape, unknown, np.int8)
            return FrameContent(motion, relevance, uncertainty, types, known=False)
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
