"""`evaluate.py model.task=instances` as a user starts it, with the embedded model and clip, on both clocks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, read_frames, read_offloads
from vitmalis_jobs.run.page.files import PAGE_FILE, read_page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PROJECT = Path(__file__).parents[2]
OPTIONS = [
    "model.task=instances",
    "model.max_width=480",
    "model.max_height=320",
    "eval.seconds=1.5",
    "link=none",
    "client.offload_timeout_s=300",
    "client.drain_s=300",
    "output.video_seconds=0",
    "output.figures=false",
    "hydra.run.dir=run",
]


@pytest.mark.parametrize("clock", [["clock=realtime"], ["clock=virtual", "latency=paper_testbed", "policy=vitmalis"]])
def test_masks_reach_screen_metrics_and_page(clock: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VITMALIS_DATA": str(tmp_path)}
    command = [sys.executable, str(PROJECT / "evaluate.py"), *OPTIONS, *clock]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rendering F1 of masks" in done.stdout
    run = tmp_path / "run"
    returned = [offload.detections for offload in read_offloads(run / OFFLOADS_FILE) if offload.status == "ok"]
    assert any(0 < np.count_nonzero(found.masks) < found.masks.size for found in returned if found.masks is not None)
    metrics = msgspec.json.decode((run / "summary.json").read_bytes())["metrics"]
    for score in ("inference_mask_f1", "inference_mask_boundary_f1"):
        assert metrics[score] > 0.5, "of the same model at full resolution, on the same frames"
    shown = [len(frame.detections) for frame in read_frames(run / FRAMES_FILE)]
    drawn = read_page(run / PAGE_FILE).document.frames
    assert [len(numbers) for numbers in drawn.masks] == (shown if any(shown) else []), "a busy machine is too late"
    assert all(outline for numbers in drawn.masks for number in numbers for outline in drawn.outlines[number])
