"""The job that times a model: what it prints is what it stores."""

import json
from pathlib import Path

import pytest
import torch

from vitmalis_jobs.validation import inference_speed

SMALL = ["--width=96", "--height=64", "--repeats=1"]


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    torch.set_num_threads(1)


def test_stages_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inference_speed.main([*SMALL, f"--output={tmp_path}/speed.json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "speed.json").read_text())
    assert set(printed["median_ms"]) == {"prepare", "stem", "vit", "pyramid", "head", "detect"}
    assert inference_speed.main(["--repeats=0"]) == 2
    assert capsys.readouterr().err == "error: --repeats must be at least 1, not 0\n"


@pytest.mark.slow
def test_engines_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inference_speed.main([*SMALL, "--compare", f"--output={tmp_path}/speed.json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["engine"].split(" ")[0] for row in rows] == ["fp32", "bf16", "bf16"]
    assert all(row["ratio"] > 0 for row in rows)
