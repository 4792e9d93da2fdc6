"""The offload optimizer: Pareto frontier, knee point and urgency (paper, section IV-E, Algorithm 1); pure functions.

A candidate has two objectives: its latency (lower is better) and its F1 (higher is better).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitmalis.errors import UserError

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

KneeMethod = Literal["tradeoff", "chord"]
Reason = Literal["only", "knee", "stale", "retention", "freshness", "explore", "exploit"]

_MAX_DIRECTIONS = 20
"""Largest number of reference directions, as in the authors' implementation of [37]."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """Thresholds beyond which freshness comes before accuracy.

    Attributes:
        staleness_s: delta^eta as time: the paper's 30 frame intervals are a second at its 30 FPS.
        retention: delta^kappa: share of objects still tracked, 0..1.
    """

    staleness_s: float = 1.0
    retention: float = 0.7

    def __post_init__(self) -> None:
        if self.staleness_s <= 0:
            raise UserError(f"policy.staleness_threshold_s={self.staleness_s}: give a positive number of seconds")
        if not 0 <= self.retention <= 1:
            raise UserError(f"policy.retention_threshold={self.retention}: give a share from 0 to 1")

    def of(self, since_offload_s: float, retention: float) -> Reason | None:
        """Return why the lowest latency is needed, or None.

        Args:
            since_offload_s: eta times the frame interval, seconds.
            retention: kappa.
        """
        if since_offload_s > self.staleness_s + 1e-9:  # thirty intervals of 1/30 s are not more than a second
            return "stale"
        return "retention" if retention < self.retention else None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Candidate that Algorithm 1 chooses, and why.

    Attributes:
        frontier: indices of the Pareto-optimal candidates, from the lowest latency to the highest F1.
        knee: index of the knee point, whether or not it was chosen.
        chosen: index of the candidate to use.
        reason: why this candidate.
    """

    frontier: Int64Array
    knee: int
    chosen: int
    reason: Reason


def choose(
    latency_s: Float64Array,
    f1: Float64Array,
    urgent: Reason | None = None,
    method: KneeMethod = "tradeoff",
    f1_ties: Float64Array | None = None,
    least_f1_span: float = 0.0,
) -> Choice:
    """Choose a candidate: lines 12 to 20 of Algorithm 1.

    Args:
        latency_s: estimated E2E latency of each candidate (n,), n >= 1.
        f1: estimated inference accuracy of each (n,).
        urgent: result of `Urgency.of`.
        method: see `knee_point`.
        f1_ties: (n,), of each candidate: to be a choice, a slower one has to gain more F1 over a faster one than the
            larger of their two ties; None for any gain, as in the paper.
        least_f1_span: see `knee_point`.
    """
    frontier = pareto_frontier(latency_s, f1)
    if f1_ties is not None:
        frontier = without_ties(frontier, f1, f1_ties)
    knee = int(frontier[knee_point(latency_s[frontier], f1[frontier], method, least_f1_span)])
    if len(frontier) == 1:
        return Choice(frontier, knee, knee, "only")
    if urgent is not None:
        return Choice(frontier, knee, int(frontier[0]), urgent)
    return Choice(frontier, knee, knee, "knee")


def described(latency_s: Float64Array, f1: Float64Array, chosen: int, reason: Reason) -> Choice:
    """Return a choice that was made by another rule, with the frontier and the knee that Algorithm 1 would see."""
    frontier = pareto_frontier(latency_s, f1)
    return Choice(frontier, int(frontier[knee_point(latency_s[frontier], f1[frontier])]), chosen, reason)


def pareto_frontier(latency_s: Float64Array, f1: Float64Array) -> Int64Array:
    """Return the indices of the candidates that no other dominates, from the lowest latency to the highest F1.

    A candidate dominates another if it is at least as good in both objectives and better in one. Of candidates equal in
    both the first is kept, so that latency and F1 rise strictly along the frontier.
    """
    order = np.lexsort((-f1, latency_s))  # stable: equal ones keep their order
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(f1[order])[:-1]))
    return order[f1[order] > best_before]


def without_ties(frontier: Int64Array, f1: Float64Array, f1_ties: Float64Array) -> Int64Array:
    """Thin a frontier to the candidates that gain more F1 over the one kept before than the larger of both ties."""
    kept = [int(frontier[0])]
    for candidate in frontier[1:].tolist():
        if f1[candidate] - f1[kept[-1]] > max(f1_ties[candidate], f1_ties[kept[-1]]):
            kept.append(candidate)
    return np.array(kept, np.int64)


def knee_point(
    latency_s: Float64Array, f1: Float64Array, method: KneeMethod = "tradeoff", least_f1_span: float = 0.0
) -> int:
    """Return the position of the knee on a frontier (n,), n >= 1, in the order of `pareto_frontier`.

    Args:
        latency_s, f1: the frontier.
        method: "tradeoff" or "chord".
        least_f1_span: difference of F1 that weighs as much as the whole span of latencies, where the frontier spans
            less. At 0, as in the paper, the frontier's own span does, however small it is.

    Raises:
        UserError: an unknown method.
    """
    check_method(method)
    if len(latency_s) == 1:
        return 0
    # Both objectives as losses: 0 for the best on the frontier, 1 for the worst (less if F1 spans less than the least).
    slowness = (latency_s - latency_s[0]) / (latency_s[-1] - latency_s[0])
    inaccuracy = (f1[-1] - f1) / max(f1[-1] - f1[0], least_f1_span)
    return _by_chord(slowness, inaccuracy) if method == "chord" else _by_tradeoff(slowness, inaccuracy)


def check_method(method: KneeMethod) -> KneeMethod:
    """Return the method as it is; raises `UserError` for an unknown one."""
    if method not in get_args(KneeMethod):
        raise UserError(f"policy.knee={method}: choose one of {', '.join(get_args(KneeMethod))}")
    return method


def _by_chord(slowness: Float64Array, inaccuracy: Float64Array) -> int:
    """Find the point farthest from the line between both ends, on its better side; the faster of equals.

    The line is slowness + inaccuracy = 1.
    """
    return int(np.argmin(np.round(slowness + inaccuracy, 12)))


def _by_tradeoff(slowness: Float64Array, inaccuracy: Float64Array) -> int:
    """Find the knee by trade-off utility: Li, Nie, Gao and Yao, arXiv 2005.11600, reference [37] of the paper.

    The utility of one point over another is its gain in one normalised objective less its loss in the other. A point is
    a knee if no neighbour has a positive utility over it, that is, a smaller sum of losses. Neighbours are the points
    of the same or an adjacent reference direction; directions are spread evenly between the axes, and a point belongs
    to the closest. Knees in the two outermost directions only count if there are no others: they are ends of the
    frontier rather than bends in it. Where a least span makes the fast end lose less than 1, ends count like bends.

    Of several knees, where Algorithm 1 needs one, the one with the smallest sum of losses is taken, the faster of
    equals. On a frontier with one bend this is the point that `chord` finds; they differ where `chord` takes an end of
    the frontier although there is a bend inside.
    """
    loss = np.round(slowness + inaccuracy, 12)
    spans = min(max(len(loss) - 2, 1), _MAX_DIRECTIONS)
    directions = _directions(spans)
    angles = np.arctan2(inaccuracy, slowness)
    belongs = np.abs(angles[:, None] - directions).argmin(axis=1)
    neighbours = np.abs(belongs[:, None] - belongs) <= 1
    knees = (loss[:, None] <= np.where(neighbours, loss, np.inf)).all(axis=1)
    inner = knees & ((belongs > 0) & (belongs < spans) | (inaccuracy[0] < 1))
    return int(np.argmin(np.where(inner if inner.any() else knees, loss, np.inf)))


@lru_cache(maxsize=_MAX_DIRECTIONS)
def _directions(spans: int) -> Float64Array:
    """Angles of the reference directions, spread evenly between the axes: (spans + 1,)."""
    share = np.linspace(0.0, 1.0, spans + 1)
    return np.asarray(np.arctan2(1 - share, share), np.float64)
