"""Options that Hydra refuses: the error shows what would work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hydra.errors import HydraException

from vitmalis_jobs.common.cli import error_line
from vitmalis_jobs.common.config import compose


def refusal(*overrides: str) -> str:
    with pytest.raises(HydraException) as caught:
        compose("evaluate", ["video=file", *overrides])
    return error_line(caught.value, "evaluate")


@pytest.mark.parametrize(
    "name",
    ["VID (1).mp4", "a,b.mp4", "a=b.mp4", "it's.mp4", "it's $HOME.mp4", "a[1].mp4", "{a}.mp4", 'say "b" (1).mp4'],
)
def test_the_quoting_that_is_shown_works(name: str) -> None:
    line = refusal(f"video.path={name}")
    assert line.startswith(f"video.path={name}: ")
    shell = ["sh", "-c", f"printf %s {line.partition(' shell and Hydra: ')[2]}"]
    option = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    assert compose("evaluate", ["video=file", option]).video.path == name


def test_the_home_folder_is_written_out() -> None:
    line = refusal("video.path=~/plain.mp4")
    assert line.endswith(f"\"video.path='{Path.home()}/plain.mp4'\"")


def test_an_option_without_a_value() -> None:
    assert refusal("eval.seconds") == "eval.seconds: options are written as key=value"


@pytest.mark.parametrize(
    ("option", "meant"), [("polcy=oracle", "policy"), ("seconds=3", "eval.seconds"), ("video.pth=a.mp4", "video.path")]
)
def test_the_option_that_was_meant(option: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate.py", "video=file", option])
    assert f"did you mean {meant}? " in refusal(option)


def test_no_option_is_meant() -> None:
    assert "did you mean" not in refusal("nope=1")
