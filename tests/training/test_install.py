"""What was trained becomes the package's own on request, and never otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch import nn

import vitmalis
from vitmalis.detector import build_model, preset, save_checkpoint
from vitmalis.errors import UserError
from vitmalis.paths import file_sha256
from vitmalis_jobs.common.config import compose
from vitmalis_jobs.training import install as job
from vitmalis_jobs.training.install import install, installations

PACKAGE = Path(vitmalis.__file__).parent
SHIPPED = PACKAGE / "estimation" / "data" / "vitdet_tiny"
TRACE_MODEL = PACKAGE / "network" / "traces" / "trace_model.json"


@pytest.mark.parametrize("name", ["train_detector", "train_masks", "train_estimators", "fit_traces"])
def test_no_training_writes_outside_runs(name: str) -> None:
    values = OmegaConf.to_yaml(compose(name), resolve=True)
    assert not [line for line in values.splitlines() if "src/" in line or "docs/" in line]


def test_estimators_go_where_those_of_their_model_are(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "trained"))
    (folder / "study.db").write_text("not a result")
    assert {source.name: target for source, target in installations(folder)} == {
        name: SHIPPED / name
        for name in (*(f"{t}_{k}.json" for t in ("size", "accuracy") for k in ("mlp", "linear", "mean")), "card.md")
    }
    (folder / "size_mean.json").unlink()
    with pytest.raises(UserError, match=r"size_mean\.json' is missing"):
        install(folder)


def test_weights_go_where_those_of_their_model_are(tmp_path: Path) -> None:
    model = build_model(preset("vitdet_tiny"))
    save_checkpoint(model, tmp_path / "best.pt", {"config": {"model": {"name": "vitdet_tiny"}}})
    expected = PACKAGE / "detector" / "weights" / "vitdet_tiny.pt"
    assert list(installations(tmp_path / "best.pt")) == [(tmp_path / "best.pt", expected)]
    save_checkpoint(model, tmp_path / "other.pt", {"config": {"model": {"name": "vitdet_b"}}})
    with pytest.raises(UserError, match="weights of model vitdet_b, which do not come with the package"):
        install(tmp_path / "other.pt")


def test_a_mask_head_goes_next_to_the_weights_of_its_model(tmp_path: Path) -> None:
    facts = {"config": {"model": {"name": "vitdet_tiny"}}}
    model = build_model(preset("vitdet_tiny").with_task("instances"))
    head = model.mask_branch
    assert head is not None
    save_checkpoint(nn.ModuleDict({"mask_head": head}), tmp_path / "mask_head.pt", facts)
    expected = PACKAGE / "detector" / "weights" / "vitdet_tiny_masks.pt"
    assert list(installations(tmp_path / "mask_head.pt")) == [(tmp_path / "mask_head.pt", expected)]
    save_checkpoint(nn.ModuleDict({"mask_head": nn.Linear(2, 2)}), tmp_path / "other.pt", facts)
    with pytest.raises(UserError, match=r"other\.pt' do not fit this model"):
        install(tmp_path / "other.pt")
    save_checkpoint(model, tmp_path / "best.pt", facts)
    with pytest.raises(
        UserError, match=r"best\.pt' has a detector and its mask head: install the file of the mask head"
    ):
        install(tmp_path / "best.pt")


def test_a_mask_head_of_another_detector_is_refused(tmp_path: Path) -> None:
    head = build_model(preset("vitdet_tiny").with_task("instances")).mask_branch
    assert head is not None
    detector = PACKAGE / "detector" / "weights" / "vitdet_tiny.pt"
    for sha256 in (file_sha256(detector), "0" * 64):
        facts = {"config": {"model": {"name": "vitdet_tiny"}}, "detector_sha256": sha256}
        save_checkpoint(nn.ModuleDict({"mask_head": head}), tmp_path / f"{sha256[:4]}.pt", facts)
    assert len(list(installations(tmp_path / f"{file_sha256(detector)[:4]}.pt"))) == 1
    with pytest.raises(UserError, match=r"0000\.pt' was trained on another detector than the package's"):
        install(tmp_path / "0000.pt", replace=True)


@pytest.mark.parametrize("metadata", [{"config": None}, {"config": [1]}, {"config": {"model": "vitdet_tiny"}}, {}])
def test_weights_without_the_name_of_their_model_are_refused(metadata: dict[str, object], tmp_path: Path) -> None:
    save_checkpoint(nn.Linear(2, 2), tmp_path / "other.pt", metadata)
    with pytest.raises(UserError, match=r"other\.pt' has weights of an unknown model"):
        install(tmp_path / "other.pt", replace=True)


def test_new_weights_leave_the_mask_head_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = tmp_path / "best.pt"
    trained.write_text("1")
    monkeypatch.setattr(job, "installations", lambda path: iter([(path, tmp_path / "package" / "vitdet_tiny.pt")]))
    install(trained)
    assert "mask head was trained on the former weights: train another" in capsys.readouterr().out


def test_trace_parameters(tmp_path: Path) -> None:
    path = Path(shutil.copy(TRACE_MODEL, tmp_path))
    assert list(installations(path)) == [(path, TRACE_MODEL)]
    path.write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        install(path)


@pytest.mark.parametrize("name", ["gone", "gone.pt", "notes.txt"])
def test_anything_else_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"is no result of a training|do not exist"):
        install(tmp_path / name)


def test_what_is_there_is_replaced_on_request_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, kept = tmp_path / "trained.json", tmp_path / "package" / "shipped.json"
    trained.write_text("1")
    monkeypatch.setattr(job, "installations", lambda path: iter([(path, kept)]))
    install(trained)
    assert kept.read_text() == "1"
    trained.write_text("2")
    with pytest.raises(UserError, match=r"would replace shipped\.json of the package: add --replace"):
        install(trained)
    assert kept.read_text() == "1"
    monkeypatch.setattr("sys.argv", ["vitmalis train install"])
    assert job.main([str(trained), "--replace"]) == 0
    assert kept.read_text() == "2"
    assert f"{trained} -> {kept}" in capsys.readouterr().out
    install(trained)
    assert "has" in capsys.readouterr().out
