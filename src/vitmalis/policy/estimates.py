"""What a policy expects of each candidate, and the record of its choice among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitmalis.estimation import Candidates
from vitmalis.explanation import DecisionExplanation
from vitmalis.policy.base import ClientState
from vitmalis.policy.network import NetworkEstimate
from vitmalis.policy.optimizer import Choice
from vitmalis.policy.regions import FrameContent
from vitmalis.regions import RegionGrid
from vitmalis.types import BoolMask

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ContentEstimates:
    """Size and F1 expected of each candidate from the content of a frame, without the network: float64 (n,) each.

    Attributes:
        candidates: the configurations that make a difference in this frame.
        payload_bytes: size on the wire, before `SizeCorrection`.
        f1, f1_error: as in `Estimates`.
    """

    candidates: Candidates
    payload_bytes: Float64Array
    f1: Float64Array
    f1_error: Float64Array

    def where(self, chosen: BoolMask) -> ContentEstimates:
        """Select the candidates that are true in a mask, bool (n,)."""
        columns = (column[chosen] for column in (self.payload_bytes, self.f1, self.f1_error))
        return ContentEstimates(self.candidates.where(chosen), *columns)

    def with_more(self, other: ContentEstimates) -> ContentEstimates:
        """These candidates followed by others."""
        return ContentEstimates(
            self.candidates.with_more(other.candidates),
            np.concatenate([self.payload_bytes, other.payload_bytes]),
            np.concatenate([self.f1, other.f1]),
            np.concatenate([self.f1_error, other.f1_error]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class EstimatesAhead:
    """Estimates that were made from an earlier frame's content, ahead of a decision.

    Attributes:
        frame_index: the earlier frame.
        grid: decision regions of that frame.
        known: whether its motion and objects were known, see `FrameContent`.
        estimates: of the candidates of that frame.
    """

    frame_index: int
    grid: RegionGrid
    known: bool
    estimates: ContentEstimates


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Expectations of each candidate: float64 (n,) each.

    Attributes:
        candidates: the configurations that make a difference in this frame.
        payload_bytes: size on the wire.
        e2e_latency_s: from the start of encoding to the result.
        f1: accuracy, 0..1.
        f1_error: expected error of the difference between each F1 and that of `REFERENCE` in the same frame; 0 where it
            is not known. See `f1_difference_error` for other differences.
        cached_regions: how many regions take their tokens from an earlier frame.
        age_frames: frames since the one that size and F1 were estimated from, ahead of the decision; None where that is
            the frame at hand.
    """

    candidates: Candidates
    payload_bytes: Float64Array
    e2e_latency_s: Float64Array
    f1: Float64Array
    f1_error: Float64Array
    cached_regions: Float64Array
    age_frames: int | None = None

    def f1_difference_error(self, other: int) -> Float64Array:
        """Expected error of the difference between the F1 of each candidate and that of another, (n,).

        It is the larger of both errors: one of the two may be all but `REFERENCE`, whose own error is close to 0.

        Args:
            other: index of the candidate that the others are compared with.
        """
        return np.maximum(self.f1_error, self.f1_error[other])


def explain(
    state: ClientState,
    content: FrameContent,
    network: NetworkEstimate,
    estimates: Estimates,
    choice: Choice,
    retention: float,
) -> DecisionExplanation:
    """Collect the inputs, the candidates and the choice of a decision; `retention` is the kappa that it used."""
    cached = estimates.cached_regions.astype(np.int64) if estimates.cached_regions.any() else None
    return DecisionExplanation(
        tracked=state.tracked,
        region_types=content.region_types,
        region_motion=content.motion.region_motion,
        relevance=content.relevance,
        frame_motion=content.motion.frame_motion,
        frames_since_offload=state.frames_since_offload,
        retention=retention,
        uplink_mbps=network.uplink_mbps,
        rtt_s=network.rtt_s,
        tau_d=estimates.candidates.tau_d,
        quality=estimates.candidates.quality,
        restoration_point=estimates.candidates.restoration_point,
        payload_bytes=estimates.payload_bytes,
        e2e_latency_s=estimates.e2e_latency_s,
        f1=estimates.f1,
        cached_regions=cached,
        frontier=choice.frontier,
        knee=choice.knee,
        chosen=choice.chosen,
        reason=choice.reason,
    )
