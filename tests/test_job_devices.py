"""Every profiling and validation job of a model takes a device, refuses a missing one and says where the model ran."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vitmalis_jobs import cli
from vitmalis_jobs.common.machine import processor

OPTIONS = {
    "profile latency": "model.device=cuda:99",
    "profile samples": "model.device=cuda:99",
    "profile inference": "model.device=cuda:99",
    "profile restoration-points": "model.device=cuda:99",
    "profile token-merging": "model.device=cuda:99",
    "profile precision": "model.device=cuda:99",
    "profile tracking": "model.device=cuda:99",
    "validate inference-speed": "model.device=cuda:99",
    "validate virtual-speed": "model.device=cuda:99",
    "validate clock-agreement": "model.device=cuda:99",
    "validate multi-client": "model.device=cuda:99",
    "validate soak": "model.device=cuda:99",
    "validate parity": "--device=cuda:99",
    "validate library-baselines": "--device=cuda:99",
}
"""The option of each job that names the device."""

REQUIRED = {"validate parity": ["prefix"]}
CLIP = ["--clips", "market1906", "--seconds=1"]
SMALL_RUNS = {
    "profile inference": ["--width=160", "--height=96", "--repeats=1", "--points=4", "--shares=1"],
    "profile restoration-points": [*CLIP, "--frames=1", "--points=4", "--max-width=160", "--max-height=96"],
    "profile tracking": [*CLIP, "--starts=1"],
    "validate inference-speed": ["--width=96", "--height=64", "--repeats=1"],
}


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> int:
    """Run a job in this process as the command line would; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["vitmalis", *name.split(), *arguments])
    return cli.main()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_device_that_is_not_there_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, name, OPTIONS[name], *REQUIRED.get(name, ())) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{OPTIONS[name]} is not available here" in captured.err.splitlines()[-1]


@pytest.mark.parametrize("name", SMALL_RUNS)
def test_a_result_says_where_the_model_ran(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    output = f"--output={tmp_path / 'result.json'}"
    assert run(monkeypatch, name, "model.device=cpu", "model.precision=bf16", *SMALL_RUNS[name], output) == 0
    result = json.loads(capsys.readouterr().out)
    facts = {"device": "cpu", "card": processor(), "precision": "bf16", "engine": "eager"}
    assert {key: result[key] for key in facts} == facts
