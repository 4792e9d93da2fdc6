"""An offload: the decision before it and the outcome after it.

Codec, server, client and virtual clock exchange these two structs, so they depend on no policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitmalis.types import BoolMask, Configuration, Displacements

if TYPE_CHECKING:  # results of the codec and the server do not depend on how a decision is explained
    from vitmalis.explanation import DecisionExplanation


@dataclass(frozen=True, slots=True, eq=False)
class TokenCaching:
    """A decision that the server caches the tokens of a frame, and that regions take theirs from an earlier one.

    Attributes:
        base: number of the offload whose tokens the cached regions take; None without such regions.
        mask: bool (rows, cols) of decision regions, True = cached: nothing of them is sent.
        displacements: int8 (rows, cols, 2): by how many tokens, down and to the right, the content of cached regions
            has moved since the frame of `base`; None for all zero.
    """

    base: int | None = None
    mask: BoolMask | None = None
    displacements: Displacements | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRequest:
    """What the server is to ask back of a frame (DDS, SIGCOMM 2020), and how the device then sends it a second time.

    Attributes:
        low_score, high_score: a box with a score from the first to below the second is uncertain, one above is
            confident. The server asks back the regions of uncertain boxes away from confident ones.
        configuration: of the second round, in which the regions asked back have full resolution and all others low.
    """

    low_score: float
    high_score: float
    configuration: Configuration

    def second_round(self, asked: BoolMask) -> OffloadDecision:
        """How the same frame is sent again, with the regions of a mask, bool (rows, cols), at full resolution."""
        if np.all(asked):
            return OffloadDecision(Configuration(quality=self.configuration.quality))
        return OffloadDecision(self.configuration, downsample_mask=~asked)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a policy had learned by the time of a decision; before the outcome, it may learn from another offload.

    Attributes:
        size_factor: the correction of its estimates of payload sizes, see `vitmalis.estimation.SizeCorrection`.
        known_f1: accuracy expected of the result that the known boxes stem from, 0..1.
    """

    size_factor: float = 1.0
    known_f1: float = 1.0


@dataclass(frozen=True, slots=True)
class OffloadDecision:
    """How to offload one frame.

    Attributes:
        configuration: tau_d, quality and restoration point.
        downsample_mask: B, bool (rows, cols) of decision regions, True = low resolution; None when there is none.
        blank_mask: bool (rows, cols), True = painted one flat colour before a plain JPEG of the whole frame.
        coarse_mask: bool (rows, cols) of the frame's macroblocks (16 px squares), True = coded at `coarse_quality` in a
            plain JPEG of the whole frame.
        coarse_quality: JPEG quality of these macroblocks, 1..100; of no meaning without them.
        frame_downsampling: the whole frame is made this many times smaller along each axis before a plain JPEG.
        feedback: what the server is to ask back for a second round; None for one round.
        caching: with it, the server caches the frame's tokens at the restoration point, which is then at least 1, and
            takes those of cached regions from an earlier frame.
        explanation: why, from a policy that weighs alternatives.
        estimation_s, optimization_s: time such a policy spent on estimating all candidates and on choosing among them.
        estimates_age_frames: frames since the one that size and F1 of the candidates were estimated from, ahead of this
            decision; None where they were estimated in it, or not at all.
        assumed: what the explanation's estimates rest on.
    """

    configuration: Configuration
    downsample_mask: BoolMask | None = None
    blank_mask: BoolMask | None = None
    coarse_mask: BoolMask | None = None
    coarse_quality: int = 0
    frame_downsampling: int = 1
    feedback: FeedbackRequest | None = None
    caching: TokenCaching | None = None
    explanation: DecisionExplanation | None = None
    estimation_s: float | None = None
    optimization_s: float | None = None
    estimates_age_frames: int | None = None
    assumed: Assumptions = Assumptions()

    @property
    def cached_mask(self) -> BoolMask | None:
        """The regions that take their tokens from an earlier frame, bool (rows, cols); None without any."""
        return None if self.caching is None else self.caching.mask


SHORTEST_TRANSFER_S = 1e-3
"""Shortest transfer that says how fast the uplink is, seconds.

Bytes never overtake earlier ones. If the propagation delay falls during an upload, the payload catches up with its
announcement and arrives together with it, after no time that a receiver could measure.
"""


@dataclass(frozen=True, slots=True)
class OffloadOutcome:
    """Cost of a finished offload, as the device sees it; durations in seconds.

    Attributes:
        frame_index: the offloaded frame.
        decision: what was decided for it.
        payload_bytes: size of the compressed frame on the wire.
        encode_s, queue_s, decode_s, inference_s: stage durations; `queue_s` is waiting at the server.
        transfer_s: time the payload took to pass the uplink, without propagation, as the receiver sees it: less than it
            was if the propagation delay fell meanwhile.
        rtt_s: both propagation delays together (the paper's L^net).
        e2e_latency_s: start of encoding to reception of the result.
        tokens_cached: the server has cached the frame's tokens, as the decision asked.
        agreement: F1 of the boxes that were known of the offloaded frame, tracked from an earlier result, with those of
            this result; None where neither has boxes.
        agreement_age_s: age of those boxes, from the frame of the earlier result to the offloaded one.
        agreement_frame_index: the frame of the earlier result; -1 without agreement.
    """

    frame_index: int
    decision: OffloadDecision
    payload_bytes: int
    encode_s: float
    decode_s: float
    inference_s: float
    transfer_s: float
    rtt_s: float
    e2e_latency_s: float
    queue_s: float = 0.0
    tokens_cached: bool = False
    agreement: float | None = None
    agreement_age_s: float = 0.0
    agreement_frame_index: int = -1

    @property
    def network_s(self) -> float:
        """Time of upload, propagation both ways and the (small) result, seconds."""
        return self.transfer_s + self.rtt_s

    @property
    def uplink_mbps(self) -> float:
        """Throughput of this upload, Mbps, with a transfer of at least `SHORTEST_TRANSFER_S`."""
        return self.payload_bytes * 8e-6 / max(self.transfer_s, SHORTEST_TRANSFER_S)
