"""Jobs other than evaluations: what can be known before they start leaves no MLflow run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from vitmalis.errors import UserError
from vitmalis_jobs import cli
from vitmalis_jobs.common.checks import check_writable


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (["profile latency", "model.device=cuda:99"], "model.device=cuda:99 is not available here"),
        (["profile latency", "model.weights=gone.pt"], "model weights 'gone.pt' do not exist"),
        (["profile latency", "server_tables=gone.json"], "gone.json"),
        (["profile latency", "output=file/tables.json"], "folder 'file' cannot be made"),
        (["profile samples", "model.weights=gone.pt"], "model weights 'gone.pt' do not exist"),
        (["profile samples", "model.weights=random"], "vitdet_tiny has random weights, and samples are of its boxes"),
        (["profile samples", "folder=file/samples"], "folder 'file/samples' cannot be made (File exists"),
        (["profile restoration-points", "--weights", "random"], "random weights, and F1 is compared"),
        (["profile tracking", "model.weights=random"], "random weights, and F1 is compared"),
        (["profile filtering", "model.weights=random"], "random weights, and F1 is compared"),
        (["profile precision", "model.weights=random"], "random weights, and boxes are compared"),
        (["train estimators", "samples.folder=gone"], "gone has no samples"),
        (["train detector", "start.weights=gone.pt"], "gone.pt"),
        (["train detector", "export.path=file/best.pt"], "folder 'file' cannot be made"),
        (["validate multi-client", "model.weights=random"], "random weights, and clients are compared by F1"),
        (["validate multi-client", "video=camera"], "which a live source has not"),
        (["validate multi-client", "model.device=cuda:99"], "model.device=cuda:99 is not available here"),
    ],
)
def test_a_job_that_could_not_end_well_does_not_start(
    job: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    name, *options = job
    monkeypatch.setattr(sys, "argv", ["vitmalis", *name.split(), *options])
    assert cli.main() == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    if Path("runs/mlflow.db").exists():
        client = MlflowClient("sqlite:///runs/mlflow.db")
        assert not client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_folders_are_made_or_refused(tmp_path: Path) -> None:
    check_writable(tmp_path / "a/b", tmp_path)
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        check_writable(tmp_path / "file/folder")
