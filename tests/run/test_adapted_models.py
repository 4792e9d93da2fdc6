"""Another library's model through a whole run, and in a server process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.evaluation.tiny_sweep import PROJECT, make_clip
from vitmalis.detector import load_detector
from vitmalis.records import read_offloads

NAME = "vit_tiny_patch16_224"
RUN = [
    "clock=virtual",
    "latency=paper_testbed",
    "policy=back2back",
    "trace=constant",
    "video=file",
    "video.path=clip.mp4",
    "eval.seconds=1",
    "model=timm",
    f"model.name={NAME}",
    "model.window=3",
    "model.max_width=320",
    "model.max_height=192",
]


def test_a_run_on_a_timm_model(tmp_path: Path) -> None:
    """Its references, virtual server and records; random weights show as a stand-in."""
    make_clip(tmp_path / "clip.mp4")
    command = [sys.executable, str(PROJECT / "evaluate.py"), *RUN, f"hydra.run.dir={tmp_path}/run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"random weights of {NAME}" in done.stdout + done.stderr
    assert "random weights find nothing that means anything: references and F1 are left out" in done.stdout
    (summary,) = (tmp_path / "run").rglob("summary.json")
    metrics = json.loads(summary.read_text())["metrics"]
    assert "e2e_latency_s_median" in metrics
    assert not [name for name in metrics if "f1" in name], "of boxes that mean nothing"
    (offloads,) = (tmp_path / "run").rglob("offloads.parquet")
    assert any(offload.status == "ok" for offload in read_offloads(offloads))


def test_a_server_of_a_timm_model() -> None:
    command = [sys.executable, "-m", "vitmalis.server", "--model", NAME, "--source", "timm", "--window", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        server.communicate()  # its standard input closes, so it ends
    assert ready["model_id"] == load_detector(NAME, source="timm", window=3).model_id
