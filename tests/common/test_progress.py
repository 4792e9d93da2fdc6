"""Progress as bars, log lines and JSON lines."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from vitmalis_jobs.common import progress
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.progress import AS_JSON, Bars, JsonLines, LogLines, progress_display, read_progress


class Clock:
    """Time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def log() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=200), file


def test_a_log_has_a_line_at_the_start_and_one_in_five_seconds(clock: Clock) -> None:
    console, file = log()
    lines = LogLines(console)
    for second in range(13):
        clock.now_s = 100.0 + second
        lines.update("playing", second, 12, "no offloads" if second == 5 else "")
    assert file.getvalue().splitlines() == [
        "playing ...",
        "playing: 5/12, 7 s left, no offloads",
        "playing: 10/12, 2 s left",
        "playing: 12/12",
    ]


def test_a_task_that_stands_still_says_so_every_half_minute(clock: Clock) -> None:
    console, file = log()
    lines = LogLines(console)
    for second in range(0, 61, 5):
        clock.now_s = 100.0 + second
        lines.update("waiting", 0, 3, "")
    assert file.getvalue().splitlines() == ["waiting ...", "waiting: 0/3", "waiting: 0/3"]


def test_a_short_task_is_one_line_also_when_it_comes_again(clock: Clock) -> None:
    file = io.StringIO()
    terminal = Terminal(Console(file=file))
    for _ in range(2):
        with terminal.progress("preparing the clip") as step:
            step(1, 2)
            step(2, 2)
    assert file.getvalue().splitlines() == 2 * ["preparing the clip ..."]


def test_json_lines_are_read_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in AS_JSON.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal.on_stderr()
    for done in range(1, 5):
        clock.now_s += 0.15
        terminal.step(done, 4, "inference", "point 3")
    terminal.step(0, 9, "frames")
    print(json.dumps({"result": 1}))
    captured = capsys.readouterr()
    assert captured.err == ""
    assert list(read_progress(captured.out.splitlines(keepends=True))) == [
        (1, 4, "inference"),
        (3, 4, "inference"),
        (4, 4, "inference"),
        (0, 9, "frames"),
    ]


def test_the_display_follows_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AS_JSON:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(progress_display(Console(file=io.StringIO())), LogLines)
    assert isinstance(progress_display(Console(file=io.StringIO(), force_terminal=True)), Bars)
    for name, value in AS_JSON.items():
        monkeypatch.setenv(name, value)
    assert isinstance(progress_display(Console()), JsonLines)


def test_a_bar_leaves_standard_output_to_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(Console(stderr=True, force_terminal=True, width=100))
    with terminal.progress("measuring") as step:
        step(1, 3, "half")
        print('{"a": 1}')
        step(3, 3)
        step(3, 3)
    captured = capsys.readouterr()
    assert captured.out == '{"a": 1}\n'
    assert "measuring" in captured.err
    assert "3/3" in captured.err
