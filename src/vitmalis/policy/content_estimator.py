"""Size and F1 of every configuration from the content of a frame, at a decision or ahead of it (equations 1, 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError
from vitmalis.estimation import CandidateFeatures, Candidates, EstimatorPair, candidate_features
from vitmalis.estimation.features import downsampled_regions
from vitmalis.policy.base import ClientState
from vitmalis.policy.estimates import ContentEstimates, EstimatesAhead
from vitmalis.policy.regions import FrameContent
from vitmalis.regions.classify import task_relevance
from vitmalis.types import BoolMask

Float64Array = NDArray[np.float64]

OLDEST_AHEAD_S = 1.0
"""Age beyond which estimates that were made ahead are not used.

They hardly change within it (docs/policies.md). After longer without an offload, the scene may be another one: the
paper's reason for its limit of 30 frame intervals on eta.
"""
FIRST_FRAME_F1_LOSS = (0.05, 0.23, 0.23, 0.24, 0.26)
"""What F1 a frame that is low throughout loses, by restoration point: profile parts of ten clips (docs/policies.md)."""


class ContentEstimator:
    """Estimates size and F1 of the configurations that make a difference in a frame.

    Args:
        pair: the learned estimators.
        space: all configurations.
        first_frame_f1_loss: what F1 a frame at low resolution throughout is expected to lose, by restoration point from
            0. The estimators cannot tell before the first result: they learned from frames with known objects.

    Raises:
        UserError: a loss is not between 0 and 1, or that of a restoration point is missing.
    """

    def __init__(self, pair: EstimatorPair, space: Candidates, first_frame_f1_loss: Sequence[float]) -> None:
        losses, last = list(first_frame_f1_loss), int(space.restoration_point.max())
        if not all(0 <= loss <= 1 for loss in losses):
            raise UserError(f"policy.first_frame_f1_loss={losses}: give differences of F1 from 0 to 1")
        if len(losses) <= last:
            raise UserError(
                f"policy.restoration_points has {last}, but policy.first_frame_f1_loss={losses} is of the restoration "
                f"points 0 to {len(losses) - 1} only"
            )
        self._pair, self._space = pair, space
        self._first_frame_f1_loss = np.array(losses, np.float64)

    def at_decision(self, state: ClientState, content: FrameContent) -> tuple[ContentEstimates, int | None]:
        """Estimate the configurations in this frame, unless that was done ahead.

        Returns:
            The estimates, and the age in frames of those that were made ahead, None for new ones.
        """
        ahead = self._usable_ahead(state, content)
        if ahead is None:
            return self.of(content, self._learned_relevance(state)), None
        known = ahead.estimates
        return known.where(_differ(known.candidates, content)), state.frame_index - ahead.frame_index

    def ahead(self, state: ClientState, content: FrameContent) -> EstimatesAhead:
        """Estimate the configurations for later frames from the content of this one."""
        estimates = self.of(content, self._learned_relevance(state))
        return EstimatesAhead(state.frame_index, state.grid, content.known, estimates)

    def of(self, content: FrameContent, learned_relevance: Float64Array | None = None) -> ContentEstimates:
        """Estimate size and F1 of the configurations in one pass.

        A tau_d > 0 without a region of its types is left out: it is the same as tau_d = 0, with nothing to restore.

        Args:
            content: of the frame.
            learned_relevance: over the regions that the estimators learned with, if those are not the frame's.
        """
        candidates = self._space.where(_differ(self._space, content))
        features = _features(candidates, content)
        if learned_relevance is not None:
            features = features.over_regions(learned_relevance, content.region_types.size)
        size, accuracy = self._pair.size, self._pair.accuracy
        inputs = features.of(accuracy.features)
        f1 = accuracy.predict(inputs) if content.known else self._unknown_f1(candidates, content)
        return ContentEstimates(candidates, size.predict(features.of(size.features)), f1, accuracy.error(inputs))

    def _unknown_f1(self, candidates: Candidates, content: FrameContent) -> Float64Array:
        """F1 (n,) in a frame without known objects, in which all regions are low or none is.

        The learned estimator says what the JPEG quality costs, and the measured losses what low resolution costs.
        """
        none = np.zeros_like(candidates.tau_d)
        plain = _features(Candidates.uncached(none, candidates.quality, none), content)
        f1 = self._pair.accuracy.predict(plain.of(self._pair.accuracy.features))
        loss = np.where(candidates.tau_d > 0, self._first_frame_f1_loss[candidates.restoration_point], 0.0)
        return np.maximum(f1 - loss, 0.0)

    def _learned_relevance(self, state: ClientState) -> Float64Array | None:
        """Relevance over the regions that the estimators learned with; None where those are the frame's own."""
        grid = self._pair.grid(state.grid)
        return None if grid == state.grid else task_relevance(grid, state.tracked)

    def _usable_ahead(self, state: ClientState, content: FrameContent) -> EstimatesAhead | None:
        """What was estimated ahead, if it is not too old, of the same decision regions, and of all candidates.

        What was estimated of a frame without known objects says nothing of one with some.
        """
        ahead = state.ahead
        if not isinstance(ahead, EstimatesAhead) or (ahead.grid, ahead.known) != (state.grid, content.known):
            return None
        if (state.frame_index - ahead.frame_index) * state.frame_interval_s > OLDEST_AHEAD_S:
            return None
        needed = self._space.tau_d[_differ(self._space, content)]
        return ahead if np.isin(needed, ahead.estimates.candidates.tau_d).all() else None


def _features(candidates: Candidates, content: FrameContent) -> CandidateFeatures:
    return candidate_features(candidates, content.motion, content.relevance, content.uncertainty, content.region_types)


def _differ(candidates: Candidates, content: FrameContent) -> BoolMask:
    """Mask of the candidates that downsample a region of this frame, or have tau_d = 0, bool (n,)."""
    return (candidates.tau_d == 0) | (downsampled_regions(candidates, content.region_types) > 0)
