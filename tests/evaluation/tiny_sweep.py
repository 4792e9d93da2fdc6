"""Sweeps cheap enough for tests: a clip of one second, small frames, virtual time, published durations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np

PROJECT = Path(__file__).parents[2]
FPS, FRAMES = 10, 10


def make_clip(path: Path, frames: int = FRAMES) -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (192, 420, 3), dtype=np.uint8), (0, 0), 3)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for i in range(frames):
            x = 3 * (i % 30)
            view = np.ascontiguousarray(scene[:, x : x + 320])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        out.mux(stream.encode())


def start_sweep(folder: Path, *overrides: str, script: str = str(PROJECT / "evaluate.py")) -> subprocess.Popen[str]:
    """Three policies on clip.mp4 in `folder`, or other runs by `overrides`, with evaluate.py or a `script` like it."""
    options = [
        "experiment=quick",
        "video=file",
        "video.path=clip.mp4",
        "trace=4g",
        "policy=back2back,trackb2b,trackud",
        "latency=paper_testbed",
        "model.max_width=320",
        "model.max_height=192",
        "eval.seconds=1",
        "sweep.name=s",
        *overrides,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, script, *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
