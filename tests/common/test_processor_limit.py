"""Limits on processor time, read from folders as Linux shows them inside and outside containers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vitmalis_jobs.common.processor_limit import ProcessorLimit


def version_2(folder: Path, limit: str, periods: int, throttled: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{limit}\n")
    (folder / "cpu.stat").write_text(
        f"usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 5\n"
    )


def version_1(folder: Path, quota_us: int, periods: int, throttled: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.stat").write_text(f"nr_periods {periods}\nnr_throttled {throttled}\nthrottled_time 5\n")


def groups(folder: Path, text: str) -> Path:
    path = folder / "cgroup"
    path.write_text(text)
    return path


def test_the_tightest_of_nested_limits_and_the_one_that_was_reached_most(tmp_path: Path) -> None:
    own, root = groups(tmp_path, "0::/user.slice/job\n"), tmp_path / "fs"
    version_2(root / "user.slice", "max 100000", 0, 0)
    version_2(root / "user.slice" / "job", "150000 100000", 100, 10)
    before = ProcessorLimit.now(own, root)
    assert before.cores == 1.5
    version_2(root / "user.slice" / "job", "150000 100000", 200, 40)
    assert ProcessorLimit.now(own, root).throttled_since(before) == pytest.approx(0.3)
    version_2(root / "user.slice", "50000 100000", 0, 0)
    limited = ProcessorLimit.now(own, root)
    assert limited.cores == 0.5
    assert limited.throttled_since(before) == 0.0  # another limit than before: nothing to compare with


def test_inside_a_container_the_mount_is_its_group(tmp_path: Path) -> None:
    own, root = groups(tmp_path, "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n"), tmp_path / "fs"
    version_1(root / "cpu,cpuacct", 200_000, 10, 0)
    before = ProcessorLimit.now(own, root)
    assert before.cores == 2.0
    version_1(root / "cpu,cpuacct", 200_000, 30, 10)
    assert ProcessorLimit.now(own, root).throttled_since(before) == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["0::/\n", "1:cpu:/\n", "12:pids:/a\n", ""])
def test_no_limit(tmp_path: Path, text: str) -> None:
    version_1(tmp_path / "fs" / "cpu", -1, 0, 0)
    assert ProcessorLimit.now(groups(tmp_path, text), tmp_path / "fs").cores == math.inf


def test_a_system_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    limit = ProcessorLimit.now(tmp_path / "absent", tmp_path)
    assert limit == ProcessorLimit()
    assert limit.throttled_since(limit) == 0.0
