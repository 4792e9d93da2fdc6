"""`evaluate.py` as a user starts it: real server, relay and client, the embedded model on small frames."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest

from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, read_frames, read_info, read_offloads
from vitmalis_jobs.common.mlflow_store import Store

pytestmark = pytest.mark.timeout(1200)
PROJECT = Path(__file__).parents[2]
FPS, SECONDS = 10, 2
PATIENCE_S = 300
"""Long enough on a machine that is busy with other work."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a short clip: texture that moves."""
    folder = tmp_path_factory.mktemp("end-to-end")
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (192, 420, 3), dtype=np.uint8), (0, 0), 3)
    with av.open(str(folder / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for i in range(FPS * SECONDS):
            view = np.ascontiguousarray(scene[:, 3 * i : 3 * i + 320])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        out.mux(stream.encode())
    return folder


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    options = [
        "video=file",
        "video.path=clip.mp4",
        "model.max_width=320",
        "model.max_height=192",
        f"eval.seconds={SECONDS}",
        "trace.index=3",
        "hydra.run.dir=run",
        *overrides,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(PROJECT / "evaluate.py"), *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def statuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(folder)
    store = Store("sqlite:///runs/mlflow.db", "evaluation", Path("runs/artifacts"))
    return [run.info.status for run in store.client.search_runs([store.experiment_id])]


def children(process: subprocess.Popen[str], module: str) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children() if module in command_line(p)]


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # a helper such as git may end between being listed and being asked
        return ""


def wait_for_child(process: subprocess.Popen[str], module: str) -> psutil.Process:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := children(process, module):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no {module} was started")


def test_the_whole_chain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(folder)
    said, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, complaints
    assert "rendering F1" in said
    run = folder / "run"
    frames, offloads = read_frames(run / FRAMES_FILE), read_offloads(run / OFFLOADS_FILE)
    assert [frame.frame_index for frame in frames] == list(range(FPS * SECONDS))
    assert {frame.source for frame in frames} & {"remote", "tracker"}
    returned = [o for o in offloads if o.status == "ok"]
    assert returned
    for offload in returned:
        assert None not in (offload.e2e_latency_s, offload.network_s, offload.inference_s)
    info = read_info(run / FRAMES_FILE)
    assert (info.policy, info.trace, info.clock) == ("trackb2b", "4g_03", "realtime")
    with av.open(str(run / "rendered.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == FPS * SECONDS
    assert statuses(folder, monkeypatch)[0] == "FINISHED"


def test_ctrl_c_ends_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(folder, "hydra.run.dir=killed")
    server = wait_for_child(process, "vitmalis.server")
    all_children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert complaints.strip() == "interrupted"
    assert server in all_children
    assert not [child for child in all_children if child.is_running()]
    assert statuses(folder, monkeypatch)[0] == "KILLED"


def test_nothing_outlives_a_killed_evaluation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(folder, "hydra.run.dir=killed_outright")
    wait_for_child(process, "vitmalis.client")
    all_children = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    psutil.wait_procs(all_children, PATIENCE_S)
    assert not [child for child in all_children if child.is_running()]
    assert statuses(folder, monkeypatch)[0] == "KILLED"


def test_a_busy_port_is_one_line_and_leaves_no_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = statuses(folder, monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(folder, f"server.address=tcp://127.0.0.1:{port}", "hydra.run.dir=busy")
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    (line,) = complaints.strip().splitlines()
    assert line.startswith("error: ")
    assert str(port) in line
    assert statuses(folder, monkeypatch) == before
    assert not (folder / "busy").exists()
