"""The commands of the training jobs: exit statuses and error lines, and one short detector training from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training import detector, estimators, evaluate_detector, traces
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig

ROOT = Path(__file__).parents[2]


def test_a_mistake_on_the_command_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "training.detector", f"hydra.run.dir={tmp_path}", "train.steps=3"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: train.hours=1.13 and train.steps=3: give one and null the other\n"


@pytest.mark.parametrize(
    ("job", "override", "status", "error"),
    [
        (detector, "model=vitdet_x", 2, "error: model=vitdet_x is unknown: did you mean vitdet_l? Else choose one of "),
        (detector, "train.device=gpu0", 2, "error: train.device=gpu0 is not available here ("),
        (detector, "train.batch=3", 2, "error: there is no option 'train.batch': did you mean whole_frames.batch?"),
        (evaluate_detector, "start.weights=none.pt", 2, "none.pt"),
        (estimators, "samples.folder=none", 2, "error: none has no samples (*.parquet); make them with"),
        (traces, "source=none", 2, "error: none/traces.csv is not there; give source=<folder"),
    ],
)
def test_a_mistake_exits_with_2_and_one_line(
    job: object,
    override: str,
    status: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["job", *quiet, override])
    assert job.main() == status
    printed = capsys.readouterr().err
    assert error in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_a_detector_is_trained_resumed_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on small views of rendered scenes, a third after a restart, then the scores of what was exported."""
    monkeypatch.chdir(tmp_path)
    small = [
        "~clips.weights", "+clips.weights={}", "rendered.share=1", "street.share=0", "rendered.profiles=[walkS]",
        "rendered.scenes=1", "rendered.frames_per_scene=2", "held_out.frames_per_profile=1", "held_out.played=[]",
        "train.device=cpu", "train.hours=null", "train.workers=0", "train.log_every_steps=1", "train.folder=run",
        "stages=[{until: 1, batch: 1, sizes: [[64, 64]], scales: [1, 1]}]",
    ]  # fmt: skip
    for steps in (2, 3):
        config = checked(compose("train_detector", [*small, f"train.steps={steps}"]), DetectorTrainingConfig)
        detector.train_detector(config)
    other = checked(compose("train_detector", [*small, "train.steps=4", "train.seed=7"]), DetectorTrainingConfig)
    with pytest.raises(UserError, match=r"train\.seed=7: the run in train\.folder=run began with train\.seed=1906;"):
        detector.train_detector(other)
    assert torch.load("run/last.pt", weights_only=True)["step"] == 3
    names = {str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file()}
    assert {"best.pt", "config_from_0000000.yaml", "config_from_0000002.yaml"} <= names
    assert "contact_sheets/0000003/rendered_walkS.jpg" in names
    trained = checked(compose("train_detector", [*small, "train.steps=3", "start.weights=run/best.pt"]), type(config))
    evaluate_detector.evaluate_detector(trained)
    result = json.loads(Path("run/evaluation.json").read_text())
    assert result["scores"]["rendered_walkS"]["frames"] == result["half_size_scores"]["rendered_walkS"]["frames"] == 1
    assert set(result["best_thresholds"]) == {"full_size", "half_size", "both_sizes"}
    assert result["tracked_f1"] == result["halved_f1"] == {}
    assert set(result["seconds"]) == {"backbone", "pyramid", "head", "frame"}
