"""The load of other programs: computed from counters, measured next to a busy process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from vitmalis_jobs.common.machine_load import (
    BUSY_SHARE,
    LoadMeter,
    MachineLoad,
    ProcessorTimes,
    busy_marks,
    share_of_others,
    usable_share,
)

LOOP = "import time; end = time.monotonic() + 120\nwhile time.monotonic() < end: pass"


def test_time_of_others_is_what_is_busy_and_not_ours() -> None:
    before = ProcessorTimes(total_s=100.0, busy_s=40.0, ours_s=10.0)
    after = ProcessorTimes(total_s=120.0, busy_s=55.0, ours_s=15.0)
    assert share_of_others(before, after) == pytest.approx((15.0 - 5.0) / 20.0)
    assert share_of_others(before, before) == 0.0
    assert share_of_others(before, ProcessorTimes(110.0, 41.0, 20.0)) == 0.0  # counters of different clocks


@pytest.mark.parametrize(("others_cores", "share"), [(5.0, 0.0), (6.0, 0.0), (7.0, 0.5), (8.0, 1.0)])
def test_others_take_nothing_of_two_usable_cores_as_long_as_they_fit_on_the_other_six(
    others_cores: float, share: float
) -> None:
    after = ProcessorTimes(total_s=80.0, busy_s=10 * others_cores + 4.0, ours_s=4.0)  # 10 s on 8 cores
    assert share_of_others(ProcessorTimes(0.0, 0.0, 0.0), after, usable=0.25) == pytest.approx(share)


def test_a_limit_makes_the_usable_share_smaller() -> None:
    cores = psutil.cpu_count() or 1
    assert usable_share() <= 1.0
    assert usable_share(0.5) == 0.5 / cores
    assert usable_share(1000.0) == usable_share()


def test_either_share_makes_a_machine_busy() -> None:
    assert MachineLoad(BUSY_SHARE - 0.01, BUSY_SHARE - 0.01).reasons == []
    others, limit = MachineLoad(0.47, 0.25).reasons
    assert "other programs took 47%" in others
    assert "limit" in limit
    assert "25%" in limit


def test_marks_keep_numbers_in_line() -> None:
    busy, quiet = {"busy_machine": 1.0}, {"rendering_f1": 0.5}
    assert busy_marks([busy, quiet]) == ["*", " "]
    assert busy_marks([quiet, quiet]) == ["", ""]


def test_work_of_child_processes_is_ours_also_after_they_end() -> None:
    meter = LoadMeter()
    before_s = meter.read().ours_s
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert meter.read().ours_s - before_s > 0.05


@contextmanager
def busy_for_a_second(process: psutil.Process) -> Iterator[None]:
    """Let the block run next to a process until it has taken a second of processor time, then kill it."""
    try:
        began_s = process.cpu_times().user
        yield
        while process.cpu_times().user - began_s < 1.0:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


def test_a_foreign_busy_process_is_seen() -> None:
    # Started through a shell that exits, so that it is no longer below this process.
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, LOOP],
        capture_output=True,
        text=True,
        check=True,
    )
    meter = LoadMeter()
    before = meter.read()
    with busy_for_a_second(psutil.Process(int(shell.stdout))):
        pass
    after = meter.read()
    assert after.busy_s - before.busy_s - (after.ours_s - before.ours_s) > 0.8
    assert meter.load().others > 0.0


def test_a_child_from_before_the_meter_is_another_program_and_a_later_one_is_not() -> None:
    earlier = subprocess.Popen([sys.executable, "-c", LOOP])
    meter = LoadMeter()
    later = subprocess.Popen([sys.executable, "-c", LOOP])
    meter.restart()
    try:
        before = meter.read()
        while sum(psutil.Process(child.pid).cpu_times().user for child in (earlier, later)) < 2.0:
            time.sleep(0.05)
        ours_s = meter.read().ours_s - before.ours_s
        own_s = psutil.Process(later.pid).cpu_times().user
    finally:
        for child in (earlier, later):
            child.kill()
            child.wait()
    assert abs(ours_s - own_s) < 0.5
