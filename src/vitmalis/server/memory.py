"""The last bound on memory, for what the bounds on single connections do not cover: their sum, and the unforeseen."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

LEAST_GROWTH_BYTES = 256 * 2**20
"""Least growth that is allowed by default, however little memory there is: a large frame may need it."""
_INTERVAL_S = 0.1
_PAUSE_S = 1.0
_CGROUPS = Path("/sys/fs/cgroup")


class ResidentMemory:
    """Resident memory of this process; measuring it opens no file on Linux, so that it works without descriptors."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._statm: int | None = None
        with suppress(OSError):
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def bytes(self) -> int:
        """The resident memory in bytes; 0 if it cannot be measured now."""
        try:
            if self._statm is None:
                return int(self._process.memory_info().rss)
            return int(os.pread(self._statm, 200, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, psutil.Error):
            return 0

    def close(self) -> None:
        """Close the file."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None


class MemoryGuard:
    """Checks whether this process has grown beyond a limit.

    Args:
        max_growth_bytes: resident memory that may be added after `set_zero`; None for half of what machine and cgroup
            have left then.
    """

    def __init__(self, max_growth_bytes: int | None) -> None:
        self.max_growth_bytes = max_growth_bytes or LEAST_GROWTH_BYTES
        self._by_default = max_growth_bytes is None
        self._memory = ResidentMemory()
        self._next_s = 0.0
        self._zero_bytes = self._memory.bytes()

    def set_zero(self) -> None:
        """Measure growth from the present size on; called once, since a zero that moves with floods bounds nothing."""
        self._zero_bytes = self._memory.bytes()
        if self._by_default:
            self.max_growth_bytes = max(LEAST_GROWTH_BYTES, (memory_limit_bytes() - self._zero_bytes) // 2)

    def exceeded(self) -> bool | None:
        """Whether the process has grown beyond the limit; None until it is time to measure again.

        That is after 0.1 s, or 1 s where it had, so that there is time to free memory.
        """
        now_s = time.monotonic()
        if now_s < self._next_s:
            return None
        exceeded = self._memory.bytes() - self._zero_bytes > self.max_growth_bytes
        self._next_s = now_s + (_PAUSE_S if exceeded else _INTERVAL_S)
        return exceeded

    def close(self) -> None:
        """Close the file from which memory is measured."""
        self._memory.close()


def memory_limit_bytes(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that this process can have: that of the machine, or of its cgroup or one above where that is less.

    Args:
        cgroups: where cgroups (version 2, or 1 for memory) are mounted.
        own: file that names the cgroups of this process.
    """
    limits = [int(psutil.virtual_memory().total)]
    for root, name, group in _groups(cgroups, own):
        for folder in (group, *group.parents):
            if folder != root and root not in folder.parents:
                break
            with suppress(OSError, ValueError):  # there is none, or it is `max`
                limits.append(int((folder / name).read_text()))
    return min(limits)


def _groups(cgroups: Path, own: Path) -> list[tuple[Path, str, Path]]:
    """Root, name of the limit's file, and this process's folder for each hierarchy that limits memory."""
    found = [(cgroups, "memory.max", cgroups), (cgroups / "memory", "memory.limit_in_bytes", cgroups / "memory")]
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append((cgroups, "memory.max", cgroups / path.lstrip("/")))
            elif "memory" in controllers.split(","):
                root = cgroups / "memory"
                found.append((root, "memory.limit_in_bytes", root / path.lstrip("/")))
    return found
