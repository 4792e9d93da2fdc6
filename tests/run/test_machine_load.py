"""The load of other programs during a run: computed from counters, measured beside a busy process."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from vitmalis_jobs.run.machine_load import BUSY_SHARE, ProcessorTimes, busy_warning


def test_time_of_others_is_what_is_busy_and_not_ours() -> None:
    before = ProcessorTimes(total_s=100.0, busy_s=40.0, ours_s=10.0)
    after = ProcessorTimes(total_s=120.0, busy_s=55.0, ours_s=15.0)
    assert after.others_since(before) == pytest.approx((15.0 - 5.0) / 20.0)
    assert before.others_since(before) == 0.0
    assert ProcessorTimes(110.0, 41.0, 20.0).others_since(before) == 0.0  # counters of different clocks


def test_work_of_child_processes_is_ours_also_after_they_end() -> None:
    before = ProcessorTimes.now()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    child = ProcessorTimes.now().ours_s - before.ours_s
    assert child > 0.05


def test_a_foreign_busy_process_is_seen() -> None:
    # Started through a shell that exits, so that it is no longer below this process.
    code = "import time; end = time.monotonic() + 120\nwhile time.monotonic() < end: pass"
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
    )
    busy = psutil.Process(int(shell.stdout))
    try:
        before, began_s = ProcessorTimes.now(), busy.cpu_times().user
        while busy.cpu_times().user - began_s < 1.0:
            time.sleep(0.05)
        others = ProcessorTimes.now()
    finally:
        busy.kill()
    assert others.busy_s - before.busy_s - (others.ours_s - before.ours_s) > 0.8
    assert others.others_since(before) > 0.0


def test_a_busy_machine_is_warned_of_with_the_way_out() -> None:
    assert busy_warning(BUSY_SHARE - 0.01) == ""
    assert "47 %" in busy_warning(0.47).replace("47%", "47 %")
    assert "clock=virtual" in busy_warning(0.47)
