"""The frame of every job's command line: exit statuses, one line for a mistake, help that begins with what it does."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.cli import run_job

SCRIPT = """
'''Ends in each way that a job can end.'''

import sys
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import hydra_job

@hydra_job("fit_traces", {"seed=1": "ends with a missed bar"})
def main(config):
    if config.seed == 1:
        return False
    if config.seed == 2:
        raise UserError("seed=2 is taken:\\n  give another")
    if config.seed == 3:
        raise KeyboardInterrupt
    if config.seed == 4:
        raise ZeroDivisionError("a bug")

if __name__ == "__main__":
    sys.exit(main())
"""


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    script = folder / "job.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *overrides, f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("overrides", "status", "errors"),
    [
        (["seed=0"], 0, ""),
        (["seed=1"], 1, ""),
        (["seed=2"], 2, "error: seed=2 is taken:; give another\n"),
        (["seed=3"], 130, "interrupted\n"),
        (["sed=1"], 2, "error: there is no option 'sed': did you mean seed? --cfg job shows all there are\n"),
        (
            ["paths=null"],
            2,
            "error: paths=null: a group takes the name of one of its choices; leave it out for its default\n",
        ),
        (["nope=1"], 2, "error: there is no option 'nope': --cfg job shows all there are\n"),
        (
            ["seed=0", "hydra.job.chdir=true"],
            2,
            "error: hydra.job.chdir=true: relative paths would mean other files; leave it out\n",
        ),
        (["--multirun", "seed=2,1,0"], 2, "error: seed=2 is taken:; give another\n"),
        (["--multirun", "seed=0,1"], 1, ""),
        (["seed=0,1", "-m", "iterations=1"], 1, ""),
    ],
)
def test_exit_status_and_error_line(overrides: list[str], status: int, errors: str, tmp_path: Path) -> None:
    done = run(tmp_path, *overrides)
    assert (done.returncode, done.stderr) == (status, errors)


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "seed=4")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_help_begins_with_what_the_job_does_and_shows_its_commented_options(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Ends in each way that a job can end.")
    assert "conf/fit_traces.yaml" in done.stdout
    assert "seed: " in done.stdout


def test_every_call_in_a_process_starts_with_no_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job_for_two_calls.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    main = importlib.import_module("job_for_two_calls").main
    statuses = []
    for seeds in (["--multirun", "seed=2,0"], ["seed=1"], ["seed=0"]):
        monkeypatch.setattr(sys, "argv", ["job", *seeds, f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"])
        statuses.append(main())
    assert statuses == [2, 1, 0]
    assert capsys.readouterr().err == "error: seed=2 is taken:; give another\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (True, 0), ({"a": 1}, 0), (0, 0), (False, 1)])
def test_status_of_what_a_job_returns(returned: object, status: int) -> None:
    assert run_job(lambda: returned) == status


def test_a_mistake_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise UserError("no frame\n  in clip.mp4")

    assert run_job(job) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: no frame; in clip.mp4\n")


@pytest.mark.parametrize(
    ("output", "named", "reason"),
    [("file/more/page.html", "file", "File exists"), ("folder", "folder", "Is a directory")],
)
def test_an_output_of_the_wrong_kind_is_one_line(
    tmp_path: Path, output: str, named: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    def job() -> None:
        with atomic_path(tmp_path / output) as temporary:
            temporary.touch()

    assert run_job(job) == 2
    assert capsys.readouterr().err == f"error: '{tmp_path / named}' cannot be used: {reason}: give another path\n"


def test_a_disk_that_takes_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: Path("/dev/full").write_bytes(bytes(10**6))) == 2
    assert "No space left on device: free some space there" in capsys.readouterr().err
