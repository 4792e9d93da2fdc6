"""A whole run on the virtual clock with the times of the measured server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.tiny_sweep import make_clip
from vitmalis_jobs.api import evaluate

CLIP = ["video=file", "video.path=clip.mp4", "eval.seconds=1", "model.max_width=320", "model.max_height=192"]
RUN = ["clock=virtual", "latency=h200", "trace=constant", "output.page=false", "output.figures=false"]


@pytest.mark.parametrize(("model", "inference_s"), [("vitdet_l", 0.021428), ("vitdet_b", 0.013135)])
def test_a_run_with_the_measured_server(
    model: str, inference_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    make_clip(tmp_path / "clip.mp4")
    options = [*CLIP, *RUN, "output.video_seconds=0", f"latency.model={model}"]
    run = evaluate(*options, directory=tmp_path / "run")
    answered = [offload for offload in run.records.offloads if offload.status == "ok"]
    assert answered
    for offload in answered:
        assert offload.inference_s == pytest.approx(inference_s, abs=1e-6)
        assert offload.decode_s == pytest.approx(0.010), "as on the paper's testbed"
    output = capsys.readouterr()
    said = " ".join((output.out + output.err).split())
    assert f"{model} on an NVIDIA H200, prototype of the fused engine, not measured since" in said
