"""Processes that die and are started again, or given up."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from vitmalis.errors import UserError
from vitmalis.process import Child
from vitmalis_jobs.run.supervisor import MAX_FAILURES, Facts, SupervisedProcess

PATIENCE_S = 120.0
SERVE = """
import json, sys, time
print(json.dumps({"ready": sys.argv[1], "life": int(sys.argv[2])}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `lives` that announces its arguments and waits."""
    path = tmp_path / "lives.py"
    path.write_text(SERVE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return path


def child(folder: Path, facts: Facts) -> Child:
    return Child("lives", "lives", [facts.get("ready", "first"), str(facts.get("life", 0) + 1)], folder / "log")


def until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_each_life_knows_of_the_one_before(module: Path, tmp_path: Path) -> None:
    with SupervisedProcess(lambda facts: child(tmp_path, facts)) as supervised:
        pids = []
        for life in (1, 2, 3):
            until(lambda life=life: supervised.facts["life"] == life)  # type: ignore[misc]
            assert supervised.facts["ready"] == "first"
            until(lambda: supervised.ready)
            pids.append(supervised.pid)
            if life < 3:
                os.kill(supervised.pid, signal.SIGKILL)
        assert len(set(pids)) == 3
    assert supervised.exits == ["killed by SIGKILL"] * 2  # the end that was asked for is none
    assert supervised.outcome == " and was started again"
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_without_restart_the_end_is_only_noted(module: Path, tmp_path: Path) -> None:
    with SupervisedProcess(lambda facts: child(tmp_path, facts), restart=False) as supervised:
        os.kill(supervised.pid, signal.SIGTERM)
        until(lambda: bool(supervised.exits))
        assert not supervised.ready
    assert supervised.exits == ["killed by SIGTERM"]
    assert supervised.outcome == ""


def test_what_cannot_start_again_is_given_up(module: Path, tmp_path: Path) -> None:
    with SupervisedProcess(lambda facts: child(tmp_path, facts)) as supervised:
        module.write_text("raise SystemExit('error: no room')")
        os.kill(supervised.pid, signal.SIGKILL)
        until(lambda: not supervised._thread.is_alive())
        assert "did not start (exit 1): no room" in supervised.gave_up_reason
        assert "did not start again" in supervised.outcome
        assert not supervised.ready
    assert (tmp_path / "log").read_text().count("no room") == MAX_FAILURES


def test_a_restart_for_which_there_is_no_process_is_a_failed_one(module: Path, tmp_path: Path) -> None:
    starts = []

    def start(facts: Facts) -> Child:
        starts.append(dict(facts))
        if len(starts) > 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return child(tmp_path, facts)

    with SupervisedProcess(start) as supervised:
        os.kill(supervised.pid, signal.SIGKILL)
        until(lambda: not supervised._thread.is_alive())
        assert supervised.outcome == " and did not start again: [Errno 24] Too many open files"
        assert not supervised.ready
    assert len(starts) == 1 + MAX_FAILURES


def test_what_does_not_start_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the nothing did not start"):
        SupervisedProcess(lambda _: Child("nothing", "no_such_module_here", [], tmp_path / "log"))


def test_stop_does_not_wait_for_a_start_that_hangs(module: Path, tmp_path: Path) -> None:
    supervised = SupervisedProcess(lambda facts: child(tmp_path, facts))
    module.write_text("import sys; sys.stdin.read()")  # never says that it is ready
    first = supervised.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: supervised.pid != first)
    hanging = supervised.pid
    stopping = threading.Thread(target=supervised.stop)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    assert not psutil.pid_exists(hanging)


def test_stop_in_the_middle_of_a_restart_leaves_nothing(module: Path, tmp_path: Path) -> None:
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    supervised = SupervisedProcess(lambda facts: child(tmp_path, facts))
    os.kill(supervised.pid, signal.SIGKILL)
    until(lambda: bool(supervised.exits))
    supervised.stop()
    left = [each for each in psutil.Process().children(recursive=True) if each.pid not in before]
    assert [each for each in left if sys.executable in each.cmdline()] == []
