"""The interface of offloading policies: decide each offload, observe what it cost."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vitmalis.codec.macroblocks import check_macroblocks
from vitmalis.errors import UserError
from vitmalis.offload import FeedbackRequest, OffloadDecision, OffloadOutcome, TokenCaching
from vitmalis.regions.grid import RegionGrid
from vitmalis.regions.treatment import Treatment
from vitmalis.types import Detections, RgbImage

if TYPE_CHECKING:
    from vitmalis.regions.motion import Motion

FloatArray = NDArray[np.float64]


class CachedFrame(NamedTuple):
    """The latest frame whose tokens the server has cached, as far as the device knows."""

    offload_id: int
    frame_index: int
    restoration_point: int


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a device knows when it decides; nothing here comes from a reference or a later frame.

    Attributes:
        frame_index: the frame about to be offloaded.
        grid: decision regions of the frame.
        frame_interval_s: seconds between two captures.
        time_s: seconds since the first frame.
        frames_since_offload: eta, frames since the last offloaded one (0 for the first).
        tracked: the objects of the latest result, located in this frame; they stay where they were found if the policy
            does not use objects.
        retention: kappa, share of objects still tracked since the tracker was last re-initialised, 0..1.
        motion: latest result of the motion analyzer, for this frame or an earlier one; None before the first.
        result_age_frames: frames since the offloaded one whose result `tracked` stems from; 0 before the first.
        offloads_in_flight: offloads that are sent without waiting for each other, at most.
        image: the frame itself, RGB uint8 (H, W, 3), for policies that compute a feature of their own; it is not to be
            changed. None in states that are made without a frame.
        results: number of results received; before the first, nothing is known about objects.
        cached_frame: what cached regions can take their tokens from; None where the server has nothing, or has perhaps
            lost it.
        ahead: what `Policy.estimate_ahead` returned last, for the frame of an earlier offload; None before that.
    """

    frame_index: int
    grid: RegionGrid
    frame_interval_s: float
    time_s: float
    frames_since_offload: int = 0
    tracked: Detections = field(default_factory=Detections.empty)
    retention: float = 1.0
    motion: Motion | None = None
    results: int = 0
    result_age_frames: int = 0
    offloads_in_flight: int = 1
    image: RgbImage | None = None
    cached_frame: CachedFrame | None = None
    ahead: object = None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Size of the frame, (width, height) in pixels."""
        return self.grid.width_px, self.grid.height_px

    @property
    def result_age_s(self) -> float:
        """Age of the tracked boxes, seconds."""
        return self.result_age_frames * self.frame_interval_s


def check_decision(decision: OffloadDecision, grid: RegionGrid) -> None:
    """Check what a policy decides for a frame with these decision regions.

    Raises:
        UserError: it is no decision, a value is out of range, a mask does not fit, or the frame is sent in two ways.
    """
    if not isinstance(decision, OffloadDecision):
        raise UserError(f"the policy's decide() returned {decision!r:.80}: return a vitmalis.offload.OffloadDecision")
    chosen, coarse = decision.configuration, decision.coarse_quality
    for name, valid, value, allowed in (
        ("tau_d", chosen.tau_d in (0, 1, 2), chosen.tau_d, "0, 1 or 2"),
        ("quality", 1 <= chosen.quality <= 100, chosen.quality, "1 to 100"),
        ("restoration_point", chosen.restoration_point >= 0, chosen.restoration_point, "0 or more"),
        ("coarse_quality", decision.coarse_mask is None or 1 <= coarse <= 100, coarse, "1 to 100"),
        ("frame_downsampling", decision.frame_downsampling >= 1, decision.frame_downsampling, "1 or more"),
    ):
        if not valid:
            raise UserError(f"the policy's decide() chose {name}={value}: choose {allowed}")
    if decision.feedback is not None:
        _check_feedback(decision.feedback, decision.frame_downsampling)
    if decision.caching is not None:
        _check_caching(decision.caching, chosen.restoration_point, grid)
    for mask in (decision.downsample_mask, decision.blank_mask):
        if mask is not None:
            grid.check(mask)
    if decision.coarse_mask is not None:
        check_macroblocks(decision.coarse_mask, grid.width_px, grid.height_px)
    if len(ways := _ways(decision)) > 1:
        raise UserError(f"the policy's decide() chose {' and '.join(ways)}, but a frame is sent in one way: choose one")


def _ways(decision: OffloadDecision) -> list[str]:
    """The ways in which a decision has the frame sent, none for a plain JPEG; regions may be low, cached or both."""
    cached = decision.cached_mask is not None and bool(decision.cached_mask.any())
    chosen = {
        "downsample_mask": decision.downsample_mask is not None and not cached,
        "cached regions": cached,
        "blank_mask": decision.blank_mask is not None,
        "coarse_mask": decision.coarse_mask is not None,
        f"frame_downsampling={decision.frame_downsampling}": decision.frame_downsampling > 1,
    }
    return [way for way, is_chosen in chosen.items() if is_chosen]


def _check_feedback(feedback: FeedbackRequest, frame_downsampling: int) -> None:
    low, high, chosen = feedback.low_score, feedback.high_score, feedback.configuration
    for name, valid, value, allowed in (
        ("scores", 0 <= low < high <= 1, (low, high), "two rising ones from 0 to 1"),
        ("tau_d", chosen.tau_d in (1, 2), chosen.tau_d, "1 or 2"),
        ("quality", 1 <= chosen.quality <= 100, chosen.quality, "1 to 100"),
        ("restoration_point", chosen.restoration_point >= 0, chosen.restoration_point, "0 or more"),
        ("frame_downsampling", frame_downsampling == 1, frame_downsampling, "1, as regions are asked back"),
    ):
        if not valid:
            raise UserError(f"the policy's decide() requests feedback with {name}={value}: choose {allowed}")


def _check_caching(caching: TokenCaching, restoration_point: int, grid: RegionGrid) -> None:
    """Check what a decision says about cached tokens; raises `UserError` as `check_decision` does."""
    if restoration_point < 1:
        raise UserError(f"the policy's decide() chose restoration_point={restoration_point} with caching: 1 or more")
    if caching.mask is not None and grid.check(caching.mask).any():
        if caching.base is None or caching.base < 0:
            raise UserError(
                f"the policy's decide() chose cached regions of offload {caching.base}: give "
                "state.cached_frame.offload_id"
            )
        grid.treatments(np.where(caching.mask, np.int8(Treatment.CACHED), np.int8(Treatment.FULL)))
    moved = caching.displacements
    if moved is not None and (moved.dtype != np.int8 or moved.shape != (*grid.shape, 2)):
        raise UserError(
            f"the policy's decide() chose displacements {moved.dtype} {moved.shape}: give int8 {(*grid.shape, 2)}"
        )


class LookaheadResult(NamedTuple):
    """Simulated outcome of one decision."""

    rendered_f1: float
    """F1 of the boxes that the user would see, over the same frames for all candidates."""
    received_s: float
    """Arrival of the result, seconds of the run."""


class Lookahead(Protocol):
    """Simulates decisions before one is taken; only the virtual clock has one.

    Every method takes the state that is decided in, and n decisions that are possible there.
    """

    def evaluate(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> list[LookaheadResult]:
        """Simulate the outcome of each decision."""

    def payload_bytes(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        """Size on the wire of each decision (n,)."""

    def inference_f1(self, state: ClientState, decisions: Sequence[OffloadDecision]) -> FloatArray:
        """F1 of the result of each decision, compared with the frame's reference (n,)."""

    def transfer_s(
        self, state: ClientState, decisions: Sequence[OffloadDecision], payload_bytes: FloatArray
    ) -> FloatArray:
        """Time that payloads of these sizes (n,) take to pass the uplink, without propagation, seconds (n,)."""

    def f1_by_age(self, state: ClientState, oldest_s: float) -> FloatArray:
        """F1 of the frame's reference boxes, tracked, at the age of 0, 1, ... frames up to `oldest_s` (k,)."""


class Policy(abc.ABC):
    """Base of all policies: decides, per frame that may be offloaded, whether and how it is sent.

    A subclass needs `decide` alone; options are arguments of its constructor, by keyword. It may be in any package
    (docs/extend.md), and `vitmalis.testing.PolicyContract` tests it.

    Attributes:
        uses_tracker: whether the client carries boxes forward between results.
        uses_objects: whether decisions depend on the known objects; the client then locates them in a frame first.
        uses_motion: whether the client analyses the motion of frames.
        estimates_ahead: whether the client calls `estimate_ahead`.
        stand_in: what in the policy stands for something else, such as estimators of another model; empty for nothing.
            A run shows and tags it.
    """

    uses_tracker: bool = False
    uses_objects: bool = True
    uses_motion: bool = False
    estimates_ahead: bool = False
    stand_in: str = ""

    @abc.abstractmethod
    def decide(self, state: ClientState) -> OffloadDecision | None:
        """Choose how to offload the frame that `state` describes, or decline to offload it with None.

        The client asks once for a frame: the newest one, when an offload may start. After None it asks again with the
        next captured frame, and tracks what is known meanwhile.
        """

    def estimate_ahead(self, state: ClientState) -> object:  # noqa: B027  # a policy need not estimate
        """Estimate for later decisions what can be known from the state of this one, while its offload is in flight.

        The client calls it when an offload has started, with the state that was decided on; offloads that start while
        it runs are skipped but for the latest. Later states have what it returns as `ahead`, until there is something
        newer. In real time it runs in a thread of its own, so it must not change the policy, nor read what other
        methods change. An error that it raises ends the run.
        """

    def observe(self, outcome: OffloadOutcome) -> None:  # noqa: B027  # a policy need not learn
        """Learn from a finished offload; called once each, in the order of the results."""

    def attach_lookahead(self, lookahead: Lookahead) -> None:  # noqa: B027
        """Take the virtual clock's view of the frames to come; only an oracle and injected true values use it."""
