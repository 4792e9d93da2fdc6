"""The limit on processor time that a container or a scheduler sets (Linux cgroups, versions 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ProcessorLimit:
    """The limits that hold for this process, its own and those of the groups around it.

    Attributes:
        cores: processor time allowed per second, of the tightest limit; infinite without one.
        periods: scheduling periods (mostly 0.1 s) so far, of each limit.
        throttled: periods in which the limit was reached, so that all processes under it had to wait.
    """

    cores: float = math.inf
    periods: tuple[int, ...] = ()
    throttled: tuple[int, ...] = ()

    @classmethod
    def now(cls, own_groups: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> ProcessorLimit:
        """Read the limits; systems without cgroups have none."""
        found = [limit for group in _groups(own_groups, root) if (limit := _read(group)) is not None]
        cores, periods, throttled = zip(*found, strict=True) if found else ((), (), ())
        return cls(min(cores, default=math.inf), tuple(periods), tuple(throttled))

    def throttled_since(self, before: ProcessorLimit) -> float:
        """Share of the periods since `before` in which a limit was reached, 0..1; the largest of several limits."""
        if len(self.periods) != len(before.periods):  # a limit was set or lifted in between
            return 0.0
        rows = zip(self.periods, before.periods, self.throttled, before.throttled, strict=True)
        return max(((now - then) / max(1, end - start) for end, start, now, then in rows), default=0.0)


def _groups(own_groups: Path, root: Path) -> Iterator[Path]:
    """Folders of the cgroup that this process is in and of those around it, as far as they are visible."""
    try:
        lines = [line.split(":", 2) for line in own_groups.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in {root / controllers, root / "cpu"} if controllers else {root, root / "unified"}:
            group = mount / path.lstrip("/")
            levels = [group, *group.parents]
            # In a container the folder of its group is the mount itself, whatever the group is called outside.
            yield from dict.fromkeys([*levels[: levels.index(mount)], mount])


def _read(group: Path) -> tuple[float, int, int] | None:
    """Cores, periods and throttled periods of one cgroup; None without a limit."""
    cores = _cores(group)
    if cores is None:
        return None
    counters = dict(line.split(maxsplit=1) for line in (group / "cpu.stat").read_text().splitlines())
    return cores, int(counters.get("nr_periods", 0)), int(counters.get("nr_throttled", 0))


def _cores(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
