"""Plots of a run's numbers: where the latency goes, and how rendering F1 develops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitmalis.metrics import DEFAULT_RULE, MatchRule, f1_over_time
from vitmalis.metrics.summary import STAGES
from vitmalis.records import FrameRecord, OffloadRecord
from vitmalis.types import Detections
from vitmalis_jobs.common.plotting import BLUE, GREEN, GREY, ORANGE, SKY_BLUE, VERMILION, YELLOW, canvas, save_figure

Floats = NDArray[np.float64]
STAGE_COLOURS = {
    "encode_s": ORANGE,
    "uplink_s": SKY_BLUE,
    "queue_s": GREY,
    "decode_s": YELLOW,
    "inference_s": GREEN,
    "downlink_s": BLUE,
}


def latency_breakdown(path: Path, offloads: Sequence[OffloadRecord], title: str) -> None:
    """One bar an offload over the time it started, stacked by stage; lost offloads are crosses on the axis."""
    figure, (axes,) = canvas(title, size_in=(9.0, 3.6))
    returned = [o for o in offloads if o.status == "ok"]
    starts = np.array([o.start_time_s for o in returned])
    widths = bar_widths_s(starts, np.array([o.e2e_latency_s or 0.0 for o in returned]))
    bottom = np.zeros(len(returned))
    for stage in STAGES:
        heights = np.array([getattr(o, stage) or 0.0 for o in returned]) * 1e3
        label = f"{stage.removesuffix('_s')} ({np.median(heights):.0f} ms)" if returned else stage.removesuffix("_s")
        axes.bar(starts, heights, widths * 0.92, bottom, align="edge", color=STAGE_COLOURS[stage], label=label)
        bottom += heights
    lost = [o.start_time_s for o in offloads if o.status != "ok"]
    if lost:
        axes.plot(lost, np.zeros(len(lost)), "x", color=VERMILION, clip_on=False, label=f"lost ({len(lost)})", zorder=3)
    axes.set(xlabel="start of the offload, s", ylabel="latency, ms", ylim=(0, None))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="stage (median)")
    save_figure(figure, path)


def bar_widths_s(starts_s: Floats, durations_s: Floats) -> Floats:
    """Widths (n,) of bars that start at these times: as long as they took, or to the next one where that is earlier."""
    return np.minimum(durations_s, np.append(np.diff(starts_s), np.inf)[: len(starts_s)])


def rendering_f1(
    path: Path,
    frames: Sequence[FrameRecord],
    references: Sequence[Detections],
    title: str,
    rule: MatchRule = DEFAULT_RULE,
) -> None:
    """Rendering F1 in windows of a second, with the age of what was shown behind it."""
    figure, (axes,) = canvas(title, size_in=(9.0, 3.2))
    starts, f1 = f1_over_time(frames, references, 1.0, rule)
    axes.step(np.append(starts, starts[-1:] + 1.0), np.append(f1, f1[-1:]), where="post", color=BLUE, lw=2)
    axes.set(xlabel="time in the clip, s", ylim=(0, 1.02))
    axes.set_ylabel("rendering F1 (1 s windows)", color=BLUE)
    age = axes.twinx()
    shown = [f for f in frames if f.result_frame_index >= 0]
    age.plot(
        [f.capture_time_s for f in shown],
        [f.frame_index - f.result_frame_index for f in shown],
        color=VERMILION,
        lw=1,
        alpha=0.6,
    )
    age.set_ylabel("age of the result, frames", color=VERMILION)
    age.set_ylim(0, None)
    age.spines["top"].set_visible(False)
    save_figure(figure, path)
