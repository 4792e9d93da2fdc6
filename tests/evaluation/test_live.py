"""Live runs as a user starts them: a camera of the network is shown while it plays, recorded, and scored afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.run.page.browser import chromium
from vitmalis.client.session import SESSION_FILE, read_session
from vitmalis.codec.jpeg import encode_jpeg
from vitmalis.records import FRAMES_FILE, RecordsInfo, write_frames
from vitmalis.video.recording import RECORDING_FILE
from vitmalis_jobs.evaluation.score import main as score
from vitmalis_jobs.run.page.files import read_page

pytestmark = pytest.mark.timeout(1200)
PROJECT = Path(__file__).parents[2]
FPS, SECONDS, WIDTH, HEIGHT = 10, 3, 320, 192
PATIENCE_S = 300


class Camera(BaseHTTPRequestHandler):
    """A camera of the network: texture that moves, as JPEG images in real time, without end."""

    def do_GET(self) -> None:
        rng = np.random.default_rng(0)
        scene = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, 2 * WIDTH, 3), dtype=np.uint8), (0, 0), 3)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(100_000):
            left = 3 * number % WIDTH
            jpeg = encode_jpeg(np.ascontiguousarray(scene[:, left : left + WIDTH]), 90)
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
            except OSError:  # whoever watched is gone
                return
            time.sleep(1 / FPS)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def camera() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg"
        server.shutdown()


def start(folder: Path, camera: str, *overrides: str) -> subprocess.Popen[str]:
    options = [
        "video=camera",
        f"video.path={camera}",
        f"video.fps={FPS}",
        f"model.max_width={WIDTH}",
        f"model.max_height={HEIGHT}",
        f"eval.seconds={SECONDS}",
        "eval.score_threshold=0.05",
        "hydra.run.dir=run",
        "output.live=true",
        *overrides,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(PROJECT / "evaluate.py"), *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def live_address(process: subprocess.Popen[str]) -> str:
    """The address that is printed once the run is about to play, after what a live source lacks."""
    assert process.stdout is not None
    warned = False
    for line in process.stdout:
        warned |= "F1 is left out (" in line
        if found := re.fullmatch(r"live: (http://127\.0\.0\.1:\d+)\n", line):
            assert warned
            return found[1]
    raise AssertionError(f"no address was printed: {process.communicate()}")


def images(stream: bytes) -> list[np.ndarray]:
    """The images of a stream, BGR."""
    parts = [part for part in stream.split(b"--image\r\n") if part]
    return [
        np.asarray(cv2.imdecode(np.frombuffer(part.split(b"\r\n\r\n", 1)[1], np.uint8), cv2.IMREAD_COLOR))
        for part in parts
    ]


def test_a_camera_is_shown_recorded_and_scored(
    tmp_path: Path, camera: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path, camera, "output.record=true", "policy=trackud")
    with urllib.request.urlopen(f"{live_address(process)}/view.mjpg", timeout=PATIENCE_S) as stream:
        shown = images(stream.read())
    _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, complaints
    assert len(shown) > 1
    assert {image.shape for image in shown} == {(HEIGHT + 40, 2 * WIDTH + 8, 3)}
    frames = [image[40:, :WIDTH] for image in shown]
    assert frames[0].max() < 20, "nothing has been captured yet"
    assert frames[-1].std() > 10, "the camera's texture"

    monkeypatch.chdir(tmp_path)
    run = Path("run")
    before = json.loads((run / "summary.json").read_text())
    assert (run / RECORDING_FILE).stat().st_size > 10_000
    assert "rendering_f1" not in before["metrics"]
    assert score(["run"]) == 0, capsys.readouterr().err
    after = json.loads((run / "summary.json").read_text())
    assert 0 <= after["metrics"].pop("rendering_f1") <= 1
    assert after["run_id"] == before["run_id"], "F1 is added to the run that there is"
    assert before["metrics"].items() <= after["metrics"].items()
    assert read_session(run / SESSION_FILE).video.path == str(tmp_path / "run" / RECORDING_FILE), (
        "found from any folder"
    )
    document = read_page(run / "run.html").document
    assert len(document.frames.f1) == FPS * SECONDS
    assert (run / "rendered.mp4").is_file()
    assert score(["run"]) == 0, "again, from references that are kept"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("recording", "has no camera.mkv: output.record=true"),
        ("records", "the run ended early (interrupted): play it again"),
        ("folder", "is no folder of a run"),
    ],
)
def test_a_run_that_cannot_be_scored_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, complaint: str
) -> None:
    if change != "folder":
        session = {
            "video": {
                "name": "camera", "path": "camera:0", "fps": 10, "start_frame": 0, "frames": 40, "width": 320,
                "height": 192, "live": True,
            },
            "server_address": "", "output_dir": "",
            "geometry": {"patch_px": 16, "window": 5, "factor": 2, "restoration_points": 4},
        }  # fmt: skip
        (tmp_path / "session.json").write_text(json.dumps(session))
    if change == "records":
        (tmp_path / RECORDING_FILE).touch()
        write_frames(tmp_path / FRAMES_FILE, [], RecordsInfo(policy="p", clip="camera", ended="interrupted"))
    assert score([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert complaint in line


@pytest.mark.slow
def test_a_browser_shows_it(tmp_path: Path, camera: str) -> None:
    process = start(tmp_path, camera, "eval.seconds=60")
    try:
        address = live_address(process)
        with chromium(tmp_path / "profile") as tab:
            tab.call("Page.navigate", url=address)
            tab.wait("document.querySelector('img')?.naturalWidth > 600")
            tab.wait("document.readyState !== 'loading'")
            assert tab.run("document.querySelector('h1').textContent").startswith("trackb2b-camera-")
            tab.screenshot(tmp_path / "before.png")
            time.sleep(5)
            tab.screenshot(tmp_path / "after.png")
            assert tab.problems == []
        assert (tmp_path / "before.png").read_bytes() != (tmp_path / "after.png").read_bytes()
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
