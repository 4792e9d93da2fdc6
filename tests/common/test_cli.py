"""Exit statuses and error lines of a Hydra job, from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import hydra_job

@hydra_job("fit_traces")
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
        (["sed=1"], 2, "error: there is no option 'sed': --cfg job shows all there are\n"),
        (["--multirun", "seed=2,1,0"], 2, "error: seed=2 is taken:; give another\n"),
        (["--multirun", "seed=0,1"], 1, ""),
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
