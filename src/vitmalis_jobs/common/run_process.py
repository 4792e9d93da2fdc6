"""The process that makes an MLflow run, in the run's tags, and whether it is still there."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

HEARTBEAT_S = 60.0
"""Time between two heartbeats of a run."""
SILENT_S = 1800.0
"""A run out of sight without a heartbeat for longer is dead; long enough for clocks that differ and slow servers."""


def process_tags() -> dict[str, str]:
    """The tags of a run that this process makes."""
    process = psutil.Process()
    return {
        "process.host": platform.node(),
        "process.boot": _boot(),
        "process.namespace": _pid_namespace(),
        "process.pid": str(process.pid),
        "process.started": f"{process.create_time():.3f}",
        "process.heartbeat": f"{time.time():.0f}",
    }


def alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that makes a run still exists, as far as can be known; a run without its tags counts.

    A process of another machine, another container or before a restart of the machine is out of sight: its process id
    means another process here, or none. Then the heartbeat decides.
    """
    if "process.pid" not in tags:
        return True
    if not _in_sight(tags):
        return time.time() - float(tags.get("process.heartbeat", "inf")) < SILENT_S
    try:
        process = psutil.Process(int(tags["process.pid"]))
        # Otherwise the process id was reused. The system's idea of when it booted may move by a second or two.
        return abs(process.create_time() - float(tags["process.started"])) < 5.0
    except psutil.NoSuchProcess:
        return False


def _in_sight(tags: Mapping[str, str]) -> bool:
    """Whether process ids of the run mean the same processes here; runs of earlier versions have their host only."""
    here = {"process.host": platform.node(), "process.boot": _boot(), "process.namespace": _pid_namespace()}
    return all(tags.get(name, value) == value for name, value in here.items())


def _boot() -> str:
    """Id of the machine's last start, which containers share; empty without /proc, where there are none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    """The namespace of this process's id, as `pid:[4026531836]`; empty without /proc."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
