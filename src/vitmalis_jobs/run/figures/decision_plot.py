"""The plot of one offloading decision: regions, candidates with frontier and choice, and the actual outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitmalis.explanation import DecisionExplanation
from vitmalis.metrics import DEFAULT_RULE, MatchRule, match
from vitmalis.records import DecisionRecord, OffloadRecord, maps
from vitmalis.regions import Motion, RegionGrid, downsample_mask
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis_jobs.common.plotting import VERMILION, canvas, colour, save_figure
from vitmalis_jobs.run.figures.region_overlay import draw_region_overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAU_NAMES = ("nothing", "CMRs", "CMRs and SBRs")
_CHOSEN, _DIM = VERMILION, "#555555"
REASONS = {
    "only": "the only one on the frontier",
    "knee": "at the knee",
    "stale": "fastest: the last offload is too long ago",
    "retention": "fastest: the boxes on the screen are too likely wrong",
    "freshness": "highest F1 expected of the boxes on the screen",
    "explore": "too little is known of this configuration in such a scene",
    "exploit": "best in such scenes so far",
}
"""Reasons of the shipped policies in words; any other policy's is shown as it is."""


def draw_decision(
    path: Path,
    image: RgbImage,
    grid: RegionGrid,
    decision: DecisionRecord,
    offload: OffloadRecord,
    reference: Detections | None = None,
    rule: MatchRule = DEFAULT_RULE,
) -> None:
    """Write a PNG: regions over the frame, candidates with frontier and choice, expected against actual values.

    Args:
        path: of the PNG.
        image: the offloaded frame, RGB uint8 (H, W, 3) of the grid's size.
        grid: its decision regions.
        decision: with its explanation.
        offload: the record of the same offload.
        reference: boxes to score the result with; None leaves the actual F1 out.
        rule: how boxes are matched.
    """
    title = f"offload {decision.offload_id}, frame {decision.frame_index}"
    figure, (left, right) = canvas(title, columns=2, size_in=(15.0, 5.6), width_ratios=(1.25, 1.0))
    left.imshow(draw_regions(image, grid, decision, offload))
    left.set_axis_off()
    left.set_title(_inputs(decision.explanation), loc="left", fontsize=9)
    f1 = None if reference is None or offload.status != "ok" else match(offload.detections, reference, rule).f1
    _candidates(right, decision.explanation, offload.e2e_latency_s, f1)
    right.set_title(outcome_text(decision.explanation, offload, f1), loc="left", fontsize=9, family="monospace")
    save_figure(figure, path, dpi=110)


def draw_regions(image: RgbImage, grid: RegionGrid, decision: DecisionRecord, offload: OffloadRecord) -> RgbImage:
    """Region types over the frame as the decision saw them, and the regions as they were sent (the paper's Fig. 7)."""
    why = decision.explanation
    motion = Motion(why.region_motion, why.frame_motion)
    low, cached = low_mask(offload, decision, grid), maps.read_region_map(offload.region_map, maps.CACHED, grid.shape)
    return draw_region_overlay(image, grid, why.region_types, why.tracked, motion, low, cached)


def low_mask(offload: OffloadRecord, decision: DecisionRecord | None, grid: RegionGrid) -> BoolMask | None:
    """Regions that were sent at low resolution, bool (rows, cols), in older records as decided."""
    if offload.region_map:
        return maps.read_region_map(offload.region_map, maps.LOW, grid.shape)
    return None if decision is None else chosen_mask(decision)


def chosen_mask(decision: DecisionRecord) -> BoolMask | None:
    """The mask that the decision led to: bool (rows, cols), or None for no downsampling."""
    tau_d = decision.explanation.tau_d[decision.explanation.chosen]
    return downsample_mask(decision.explanation.region_types, tau_d) if tau_d else None


def most_varied(decisions: Sequence[DecisionRecord], offloads: Sequence[OffloadRecord]) -> DecisionRecord | None:
    """The decision to show of a run: among those of answered offloads with the most region types, the middle one."""
    returned = {offload.offload_id for offload in offloads if offload.status == "ok"}
    shown = [decision for decision in decisions if decision.offload_id in returned]
    if not shown:
        return None
    varieties = [len(np.unique(decision.explanation.region_types)) for decision in shown]
    best = [decision for decision, variety in zip(shown, varieties, strict=True) if variety == max(varieties)]
    return best[len(best) // 2]


def _candidates(axes: Axes, explanation: DecisionExplanation, latency_s: float | None, f1: float | None) -> None:
    latency_ms, accuracy = explanation.e2e_latency_s * 1e3, explanation.f1
    tau_d, some_cached = explanation.tau_d, explanation.cached_regions
    cached = np.zeros(len(tau_d), bool) if some_cached is None else some_cached > 0
    for tau, of_cached in np.unique(np.stack([tau_d, cached], 1), axis=0).tolist():
        of = (tau_d == tau) & (cached == of_cached)
        marker, suffix = ("s", ", unchanged ones cached") if of_cached else ("o", "")
        label = f"$\\tau_d$ = {tau}: {TAU_NAMES[tau]}{suffix}"
        axes.scatter(
            latency_ms[of], accuracy[of], 14, colour(tau), marker=marker, alpha=0.55, linewidths=0, label=label
        )
    frontier = explanation.frontier
    axes.plot(latency_ms[frontier], accuracy[frontier], "-", color=_DIM, lw=1, label="Pareto frontier")
    for index, marker, size, label in ((explanation.knee, "D", 70, "knee"), (explanation.chosen, "o", 150, "chosen")):
        axes.scatter(
            latency_ms[index],
            accuracy[index],
            size,
            "none",
            marker=marker,
            edgecolors=_CHOSEN,
            linewidths=1.6,
            label=label,
        )
    if latency_s is not None and f1 is not None and not explanation.expects_reward:
        axes.plot(latency_s * 1e3, f1, "x", color=_CHOSEN, ms=10, mew=2, label="actual")
    elif latency_s is not None:
        axes.axvline(latency_s * 1e3, color=_CHOSEN, ls=":", label="actual latency")
    gain = "reward (expected)" if explanation.expects_reward else "inference F1 (estimated)"
    axes.set(xlabel="E2E latency, ms (estimated)", ylabel=gain)
    axes.legend(frameon=False, fontsize=8, loc="best")


def _inputs(explanation: DecisionExplanation) -> str:
    return (
        f"known: {len(explanation.tracked)} objects, frame motion {explanation.frame_motion:.1%}, "
        f"{explanation.frames_since_offload} frames since the last offload, "
        f"{explanation.retention:.0%} of objects kept, "
        f"{explanation.uplink_mbps:.1f} Mbps, RTT {explanation.rtt_s * 1e3:.0f} ms"
    )


def outcome_text(explanation: DecisionExplanation, offload: OffloadRecord, f1: float | None) -> str:
    """Configuration and reason of a decision, and expected against actual values, a line each.

    Args:
        explanation: of the decision.
        offload: that it led to.
        f1: of the result; None if it is not known.
    """
    chosen = explanation.chosen
    configuration = (
        f"tau_d {explanation.tau_d[chosen]}, quality {explanation.quality[chosen]}, "
        f"restoration point {explanation.restoration_point[chosen]}"
    )
    if explanation.cached_regions is not None and explanation.cached_regions[chosen]:
        configuration += f", {explanation.cached_regions[chosen]} regions cached"
    kib = None if offload.payload_bytes is None else offload.payload_bytes / 1024
    latency_ms = None if offload.e2e_latency_s is None else offload.e2e_latency_s * 1e3
    gain, reward = explanation.f1[chosen], explanation.expects_reward
    rows = [
        _expectation("size", " KiB", ".0f", explanation.payload_bytes[chosen] / 1024 or None, kib),
        _expectation("latency", " ms", ".0f", explanation.e2e_latency_s[chosen] * 1e3 or None, latency_ms),
        _expectation("F1", "", ".2f", None if reward else gain, f1),
    ]
    if reward:
        rows.append(f"reward   expected {gain:.2f}: agreement of tracked boxes with the next result")
    return "\n".join((configuration, REASONS.get(explanation.reason, explanation.reason), *rows))


def _expectation(name: str, unit: str, form: str, expected: float | None, actual: float | None) -> str:
    """A line of what was expected and what it was; without what is not known of both."""
    before = "" if expected is None else f"expected {expected:{form}}{unit}, "
    return f"{name:8s} {before}" + ("unknown" if actual is None else f"was {actual:{form}}{unit if not before else ''}")
