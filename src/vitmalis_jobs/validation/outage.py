"""A run whose link is silent for half a minute, as cellular uplinks can be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitmalis.records import OffloadRecord
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import processes
from vitmalis_jobs.validation.accounting import play, played_result
from vitmalis_jobs.validation.looped_clip import loop_clip
from vitmalis_jobs.validation.prepared_run import prepared_run

START_S, END_S, CLIP_S = 10.0, 40.0, 65.0
MBPS = 20.0


def play_outage(folder: Path, overrides: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """Play a clip over a link without capacity from `START_S` to `END_S`, and account for every frame and offload.

    Returns:
        resumed_after_s: time from the end of the outage to the next result; the rest as `played_result`.

    Raises:
        UserError: the run that the overrides describe cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trace, clip = folder / "outage.csv", folder / "clip.mp4"
    trace.write_text(
        f"time_s,uplink_mbps,rtt_ms\n0,{MBPS},40\n{START_S},0,40\n{END_S},{MBPS},40\n{2 * CLIP_S},,\n", encoding="utf-8"
    )
    short = prepared_run([*overrides, "eval.seconds=3600"], terminal)
    loop_clip(Path(short.clip.path), clip, CLIP_S + 5)
    long = ["video=file", f"video.path={clip}", f"eval.seconds={CLIP_S}", "trace=file", f"trace.path={trace}"]
    prepared = prepared_run([*overrides, *long], terminal)
    terminal.note(f"the link is silent from {START_S:g} to {END_S:g} s of {CLIP_S:g} s")
    with (
        processes.server(prepared.config, folder) as server,
        processes.relay(prepared.config.link, server.address, prepared.spec.trace, folder) as link,
    ):
        played = play(prepared, link.address, folder)
    return {
        "outage_s": END_S - START_S,
        "resumed_after_s": round(resumed_after_s(played.offloads), 1),
        **played_result([played], prepared.clip.frames),
    }


def resumed_after_s(offloads: Sequence[OffloadRecord]) -> float:
    """Time from the end of the outage to the next result, s; infinity if there is none.

    The clock of the trace starts with the first offload.
    """
    end_s = min((each.start_time_s for each in offloads), default=0.0) + END_S
    answered = (each.start_time_s + each.e2e_latency_s for each in offloads if each.e2e_latency_s is not None)
    return min((time_s - end_s for time_s in answered if time_s >= end_s), default=float("inf"))
