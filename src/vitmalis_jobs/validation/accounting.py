"""Accounting for every frame and offload of a run that was disturbed, and for its processes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from vitmalis.types import OffloadStatus
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.spec import PreparedRun


def play(prepared: PreparedRun, address: str, folder: Path) -> RunRecords:
    """Play the clip once and return its records."""
    folder.mkdir(parents=True, exist_ok=True)
    return processes.play(prepared.session(address, folder), 1, folder, lambda *_: None)


def played_result(played: Sequence[RunRecords], frames: int) -> dict[str, Any]:
    """Account for every frame and offload of several plays of a clip with so many frames, and for their processes."""
    statuses = Counter(offload.status for each in played for offload in each.offloads)
    return {
        "orphans": sum(each.is_running() for each in _own_processes()),
        "frames_missing": sum(frames - len({frame.frame_index for frame in each.frames}) for each in played),
        "offloads": dict(statuses),
        "unexplained_offloads": sum(map(unexplained_offloads, played)),
        "longest_without_result_s": round(max(map(longest_gap_s, played), default=0.0), 1),
    }


def _own_processes() -> list[psutil.Process]:
    """Processes of the system that this one, or one of its children, has started and that still run."""
    return [each for each in psutil.Process().children(recursive=True) if "vitmalis." in " ".join(each.cmdline())]


def unexplained_offloads(played: RunRecords) -> int:
    """Number of offloads that are missing in the records or have no known outcome."""
    numbers = {offload.offload_id for offload in played.offloads}
    missing = set(range(max(numbers, default=-1) + 1)) - numbers
    return len(missing) + sum(
        offload.status not in list(OffloadStatus) or (offload.status != OffloadStatus.OK and not offload.reason)
        for offload in played.offloads
    )


def longest_gap_s(played: RunRecords) -> float:
    """Longest time between two results, s."""
    answered = [each.start_time_s + (each.e2e_latency_s or 0.0) for each in played.offloads if each.status == "ok"]
    return max((later - sooner for sooner, later in itertools.pairwise(answered)), default=0.0)
