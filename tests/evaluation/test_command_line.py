from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import error_line

PROJECT = Path(__file__).parents[2]


def evaluate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROJECT / "evaluate.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["policy=nope"], "policy=nope is unknown: choose one of back2back, oracle, trackb2b"),
        (["trace=6g"], "trace=6g is unknown: choose one of 4g, 5g"),
        (["model=yolo"], "model=yolo is unknown: choose one of detectron2"),
        (["eval.secs=3"], "there is no option 'eval.secs': did you mean eval.seconds?"),
        (["policy=vitmali"], "policy=vitmali is unknown: did you mean vitmalis? Else choose one of back2back"),
        (["video=file", "video.path=VID (1).mp4"], """and Hydra: "video.path='VID (1).mp4'\""""),
        (["video=walkS,driveN"], "a comma separates the runs of a sweep: add -m to make them"),
        (["policy=null"], "policy=null: a group takes the name of one of its choices"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true: relative paths would mean other files; leave it out"),
        (["nope=1"], "there is no option 'nope'"),
        (["eval.seconds=ten"], "eval.seconds=ten: expected `float`"),
        (["eval.seconds=0"], "eval.seconds=0: expected `float` > 0"),
        (["client.tracker.grid=many"], "client.tracker.grid=many"),
        (["policy.quality=high"], "policy"),
        (["trace=file", "trace.path=gone.csv"], "gone.csv"),
        (["trace=file"], "trace.path"),
        (["eval.seconds=[1"], "[1"),
        (["video=file", "video.path=gone.mp4"], "gone.mp4"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], expected: str, tmp_path: Path) -> None:
    result = evaluate(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr


def test_a_python_without_the_environment_is_told_what_to_run(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(PROJECT / "evaluate.py")]  # without installed packages
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "run `make install`, then `source .venv/bin/activate`\n" in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_helps(tmp_path: Path) -> None:
    result = evaluate("--help", cwd=tmp_path)
    assert result.returncode == 0
    for word in ("policy: back2back, oracle, trackb2b", "python evaluate.py -m", "trace.index=0..29", "make ui"):
        assert word in result.stdout
    assert not list(tmp_path.iterdir())


def test_help_and_mistakes_do_not_wait_for_heavy_imports() -> None:
    code = (
        "import sys, vitmalis_jobs.evaluation.cli as _; heavy = ('torch', 'mlflow', 'matplotlib', 'cv2'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_lines_are_joined() -> None:
    assert error_line(UserError("a\n  b")) == "a; b"
    error = MissingConfigException("message", missing_cfg_file="video/x", options=["a", "b"])
    assert error_line(error) == "video=x is unknown: choose one of a, b"
