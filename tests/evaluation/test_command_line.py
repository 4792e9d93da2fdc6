from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException
from mlflow import MlflowClient

from vitmalis.errors import UserError
from vitmalis_jobs.common.cli import error_line
from vitmalis_jobs.evaluation.cli import main

PROJECT = Path(__file__).parents[2]


def evaluate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start evaluate.py as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROJECT / "evaluate.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["policy=nope"], "policy=nope is unknown: choose one of accmpeg, back2back, bandit, cached, dds, fixed"),
        (["trace=6g"], "trace=6g is unknown: choose one of 4g, 5g"),
        (["model=yolo"], "model=yolo is unknown: choose one of detectron2"),
        (["eval.secs=3"], "there is no option 'eval.secs': did you mean eval.seconds?"),
        (["policy=vitmali"], "policy=vitmali is unknown: did you mean vitmalis? Else choose one of accmpeg, back2back"),
        (["video=file", "video.path=VID (1).mp4"], """and Hydra: "video.path='VID (1).mp4'\""""),
        (
            ["-m", "policy=trackb2b,fixed", "policy.tau_d=0"],
            "policy=trackb2b has no option 'policy.tau_d', which others of this sweep have: ++policy.tau_d sets it",
        ),
        (
            ["-m", "experiment=sensitivity", "policy=vitmalis,freshness", "policy.first_frame=full"],
            "Hydra starts a sweep over policy from the policy that is chosen without it, which has no option "
            "'policy.first_frame': write ++policy.first_frame",
        ),
        (["video=walkS,driveN"], "a comma separates the runs of a sweep: add -m to make them"),
        (["policy=null"], "policy=null: a group takes the name of one of its choices"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true: relative paths would mean other files; leave it out"),
        (["nope=1"], "there is no option 'nope'"),
        (["eval.seconds=ten"], "eval.seconds=ten: expected `float`"),
        (["eval.seconds=0"], "eval.seconds=0: expected `float` > 0"),
        (["eval.iou_threshold=0"], "eval.iou_threshold=0: expected `float` > 0"),
        (["client.tracker.grid=many"], "client.tracker.grid=many"),
        (["client.tracker.scale=0"], r"client.tracker.scale=0: expected `float` > 0"),
        (["tracker=flow_cache", "client.tracker.flow_scale=2"], r"client.tracker.flow_scale=2: expected `float` <= 1"),
        (["tracker=kalman"], "tracker=kalman is unknown: choose one of flow_cache, lucas_kanade"),
        (["tracker=flow_cache", "client.tracker.max_age=2"], "there is no option 'client.tracker.max_age'"),
        (["client.tracker.name=kalman"], "client.tracker.name=kalman"),
        (["policy.quality=high"], "policy"),
        (["trace=file", "trace.path=gone.csv"], "gone.csv"),
        (["trace=file"], "trace.path"),
        (["eval.seconds=[1"], "[1"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process, since the imports of a new one take most of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    assert main() == 2
    stderr = capfd.readouterr().err
    assert len(stderr.strip().splitlines()) == 1, stderr
    assert stderr.startswith("error: ")
    assert expected in stderr
    assert not list(tmp_path.glob("runs/evaluations"))


def test_what_else_is_in_the_folder_of_a_refused_run_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text("of an earlier run")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "eval.seconds=ten", "hydra.run.dir=mine"])
    assert main() == 2
    assert (tmp_path / "mine/config.yaml").exists()
    assert (tmp_path / "mine/summary.json").exists()


def test_a_sweep_that_is_refused_before_its_first_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "policy=vitmali,back2back"])
    assert main() == 2
    assert "did you mean vitmalis?" in capfd.readouterr().err
    assert not list(tmp_path.glob("runs/sweeps"))
    store = MlflowClient("sqlite:///runs/mlflow.db")
    assert not store.search_runs([each.experiment_id for each in store.search_experiments()])


def test_a_mistake_gets_one_line_from_the_command(tmp_path: Path) -> None:
    result = evaluate("video=file", "video.path=gone.mp4", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert "gone.mp4" in result.stderr


@pytest.mark.parametrize("command", [["evaluate.py"], ["-m", "evaluation.report", "mine"], ["-m", "profiling.latency"],
                                     ["-m", "training.install", "runs"], ["-m", "validation.parity"]])  # fmt: skip
def test_a_python_without_the_environment_is_told_what_to_run(command: list[str]) -> None:
    without = {"PYTHONPATH": "", "PATH": os.environ["PATH"]}
    for environment, missing in ((without, "vitmalis_jobs"), (without | {"PYTHONPATH": "src"}, "hydra")):
        started = [sys.executable, "-S", *command]  # without installed packages
        result = subprocess.run(started, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        line = f"has no module '{missing}': run `make install`, then `source .venv/bin/activate`\n"
        assert result.stderr.endswith(line)
        assert result.stderr.count("\n") == 1


def test_help_helps(tmp_path: Path) -> None:
    result = evaluate("--help", cwd=tmp_path)
    assert result.returncode == 0
    for word in (
        "policy: accmpeg, back2back, bandit, cached, ",
        "python evaluate.py -m",
        "trace.index=0..29",
        "make ui",
    ):
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
