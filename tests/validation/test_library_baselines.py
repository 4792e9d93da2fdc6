"""The comparison with the libraries: the models do the same work, rows and bars say what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vitmalis.detector import preset
from vitmalis_jobs.common.timing import Pairs
from vitmalis_jobs.validation import library_baselines as baselines

SIDES = (32, 48)


class Model(nn.Module):
    """A model that does next to nothing."""

    def __init__(self, *_: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.weight


@pytest.mark.parametrize("name", ["transformers", "timm"])
def test_a_library_model_has_our_parameters(name: str) -> None:
    """As many blocks, as wide, with relative positions in all of them: 85 M parameters, tables apart."""

    def counted(model: nn.Module) -> int:
        tables = ("rel_pos", "position", "pos_embed", "neck", "head.norm")
        return sum(p.numel() for key, p in model.named_parameters() if not any(table in key for table in tables))

    vit = preset("vitdet_b").with_geometry(baselines.WINDOW).vit
    ours, theirs = (baselines.MODELS[key](vit, *SIDES) for key in ("ours", name))
    assert counted(theirs) == counted(ours)
    windows = [getattr(block, "window_size", None) for block in theirs.modules() if hasattr(block, "window_size")]
    blocks = [size for size in windows if size in (0, baselines.WINDOW)]
    assert blocks == [9, 9, 0] * 4


def test_rows_and_bars() -> None:
    pairs = Pairs(ours_ms=[600.0], base_ms=[1000.0])
    row = baselines.as_row("transformers", (1088, 1920), pairs, our_bytes=2**20, library_bytes=4 * 2**20)
    assert (row["tokens"], row["time_ratio"], row["memory_ratio"], row["met"]) == ("68x120", 0.6, 0.25, True)
    assert not baselines.as_row("transformers", (1088, 1920), pairs, our_bytes=3, library_bytes=4)["met"]
    assert baselines.as_row("timm", (1088, 1920), pairs, our_bytes=3, library_bytes=4)["met"], (
        "timm has no bar of memory"
    )


def test_a_peak_is_seen_after_it_is_over() -> None:
    before = baselines.peak_bytes()
    held = torch.ones(2**26)  # 256 MiB
    assert baselines.peak_bytes() - before > 0.9 * held.numel() * 4 or before > held.numel() * 4
    del held
    assert baselines.peak_bytes() >= before


def test_the_job_compares_all_and_reports_bars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        baselines,
        "MODELS",
        {name: lambda vit, *size: baselines.frozen(Model(*size)) for name in baselines.MODELS},
    )
    peaks = {"ours": 30, "transformers": 40}
    monkeypatch.setattr(baselines, "memory_in_child", lambda setting, name, *_: peaks.get(name, 50))
    output = tmp_path / "libraries.json"
    libraries = ["--libraries", "transformers", "timm"]
    device = ["--device", "cpu", "--repeats", "1", "--output", str(output)]
    status = baselines.main(["--sizes", "32x48", "16x16", *libraries, *device])
    result = json.loads(capsys.readouterr().out)
    assert status == (0 if result["bars_met"] else 1)
    assert result == json.loads(output.read_text())
    assert [(row["tokens"], row["library"]) for row in result["rows"]] == [
        ("2x3", "transformers"),
        ("2x3", "timm"),
        ("1x1", "transformers"),
        ("1x1", "timm"),
    ]
    assert result["bars_met"] is False, "three quarters of transformers' memory are above the bar"


def test_memory_is_measured_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> object:
        commands.append(command)
        return type("Done", (), {"returncode": 0, "stdout": '{"peak_bytes": 12}', "stderr": ""})

    monkeypatch.setattr(baselines.subprocess, "run", run)
    setting = baselines.Setting("vitdet_l", torch.device("cpu"), "bf16")
    assert baselines.memory_in_child(setting, "timm", 1088, 1920, 2) == 12
    assert commands[0][1:] == [
        "-m",
        "vitmalis_jobs.validation.library_baselines",
        "--memory-of",
        "timm",
        "--sizes",
        "1088x1920",
        "--threads",
        "2",
        "--model=vitdet_l",
        "--device=cpu",
        "--precision=bf16",
    ]


@pytest.mark.parametrize("size", ["30x32", "0x16", "x", "32"])
def test_sizes_are_of_whole_patches(size: str) -> None:
    with pytest.raises(SystemExit):
        baselines.main(["--sizes", size])


def test_a_mistake_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert baselines.main(["--repeats", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --repeats")
