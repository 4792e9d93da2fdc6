"""The job that measures the fused engine, to its end: on a GPU as it is, on a CPU with the eager backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.detector.fused.reference_backbone import ReferenceBackbone, ReferenceWeights
from vitmalis.detector.fused import engine
from vitmalis_jobs.profiling.fused import job, parts


def test_a_small_frame_to_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if not torch.cuda.is_available():
        for module in (engine, parts):
            monkeypatch.setattr(module, "FusedBackbone", ReferenceBackbone)
            monkeypatch.setattr(module, "FusedWeights", ReferenceWeights)
    output = tmp_path / "fused.json"
    size = ["--model", "vitdet_tiny", "--width", "320", "--height", "192", "--precision", "fp32"]
    arguments = [*size, "--repeats", "1", "--frames", "2", "--shares", "0.5", "--points", "4", "--output", str(output)]
    assert job.main(arguments) == 0
    result = json.loads(output.read_text())
    (row,) = result["backbone"]
    assert row["restoration_point"] == 4
    assert 0 < row["flop_ratio"] < 1
    assert {(step["engine"], step["downsampled_share"]) for step in result["server_step"]} == {
        (name, share) for name in ("fused", "eager") for share in (0.0, 0.5, 1.0)
    }
    assert all(step["step_ms"] > 0 for step in result["server_step"])
    for part in ("plain", "half_low"):
        assert result["agreement_with_eager_fp32"][part]["f1"] in (None, 1.0)
