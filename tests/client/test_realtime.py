"""The realtime client against a real server process over a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import blob_server, free_address
from vitmalis.client import delivery_watch, realtime
from vitmalis.client.__main__ import warn
from vitmalis.client.realtime import RealtimeClient
from vitmalis.client.session import ClientSession, write_session
from vitmalis.errors import UserError
from vitmalis.policy import ClientState
from vitmalis.policy.back2back import Back2Back
from vitmalis.records import FRAMES_FILE, OFFLOADS_FILE, read_frames, read_info, read_offloads
from vitmalis.types import RgbImage
from vitmalis.video.spec import Overdue, VideoSpec
from vitmalis_jobs.run.processes import pass_on

WIDTH, HEIGHT, FPS, FRAMES = 320, 192, 20.0, 40
SPEED_PX = 2


def red_box(frame_index: int) -> tuple[int, int, int, int]:
    x = 40 + SPEED_PX * frame_index
    return x, 64, x + 64, 128


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    """A textured red box that moves over a textured grey wall."""
    path = tmp_path_factory.mktemp("video") / "red.mp4"
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(60, 140, (HEIGHT, WIDTH), dtype=np.uint8), (0, 0), 2)
    dots = cv2.GaussianBlur(rng.integers(0, 60, (64, 64), dtype=np.uint8), (0, 0), 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=int(FPS), options={"crf": "8"})
        stream.width, stream.height = WIDTH, HEIGHT
        for i in range(FRAMES):
            image = np.repeat(wall[..., None], 3, axis=2)
            x0, y0, x1, y1 = red_box(i)
            image[y0:y1, x0:x1] = np.stack([np.full_like(dots, 235), dots, dots], axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return VideoSpec("red", str(path), FPS, 0, FRAMES, WIDTH, HEIGHT)


def session(video: VideoSpec, address: str, folder: Path, **changes: object) -> ClientSession:
    values = {"video": video, "server_address": address, "output_dir": str(folder), "geometry": GEOMETRY} | changes
    return ClientSession(**values)  # type: ignore[arg-type]


class FailsAhead(Back2Back):
    """A policy whose estimator fails."""

    estimates_ahead = True

    def estimate_ahead(self, state: ClientState) -> object:
        raise ZeroDivisionError(f"of frame {state.frame_index}")


def test_every_frame_is_rendered_and_every_duration_adds_up(video: VideoSpec, tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path))
        client.play()
    frames, offloads = client.recorder.frames(), client.recorder.offloads()
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert all(f.render_time_s >= (f.frame_index + 1) / FPS for f in frames)
    assert all(o.status == "ok" for o in offloads)
    assert len(offloads) > 2
    for o in offloads:
        parts = (o.encode_s, o.network_s, o.queue_s, o.decode_s, o.inference_s)
        assert all(part is not None and part >= 0 for part in parts)
        assert sum(parts) <= o.e2e_latency_s + 1e-6  # type: ignore[arg-type, operator]
        assert o.network_s == pytest.approx(o.uplink_s + o.downlink_s)  # type: ignore[operator]
    shown = [f for f in frames if len(f.detections)]
    assert len(shown) > FRAMES / 2
    errors = [np.abs(f.detections.boxes_xyxy[0] - red_box(f.shown_frame_index)).max() for f in shown]
    assert np.median(errors) < 4


def test_killed_server_costs_offloads_but_no_frames(video: VideoSpec, tmp_path: Path) -> None:
    address = free_address()
    servers = [blob_server(tmp_path, address)]
    servers[0].wait_ready()

    def kill_then_restart(frames: int, offloads: int, lost: int) -> None:
        if frames == 6:
            servers[0].kill()
        if frames == 12:
            servers.append(blob_server(tmp_path, address))

    # Three frames a second leave the second server nine seconds to start in, which a busy machine may need.
    long_video = VideoSpec(video.name, video.path, 3.0, 0, FRAMES, WIDTH, HEIGHT)
    client = RealtimeClient(session(long_video, address, tmp_path), progress=kill_then_restart)
    try:
        client.play()
    finally:
        for server in servers:
            server.stop()
    frames, offloads = client.recorder.frames(), client.recorder.offloads()
    assert len(frames) == FRAMES
    assert all(len(f.detections) == 1 for f in frames[7:12]), "the tracker carries on without a server"
    after = [o for o in offloads if o.frame_index > 12]
    assert after, "offloading resumes"
    assert all(o.status == "ok" for o in after)
    assert client.recorder.lost_offloads == sum(o.status != "ok" for o in offloads)


def test_absent_server_is_one_clear_error(video: VideoSpec, tmp_path: Path) -> None:
    client = RealtimeClient(session(video, free_address(), tmp_path, connect_timeout_s=0.5))
    with pytest.raises(UserError, match=r"did not answer within 0.5 s .*nothing listens there.*is it running\?"):
        client.play()


def test_server_of_another_model_is_refused(video: VideoSpec, tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path, model_id="vitdet-7"))
        with pytest.raises(UserError, match="serves blob blob-1, this run is scored against vitdet-7"):
            client.play()


def test_server_of_other_regions_is_refused(video: VideoSpec, tmp_path: Path) -> None:
    """Before its `model_id`, which also differs, says less."""
    with blob_server(tmp_path) as server:
        address = server.wait_ready()["ready"]
        for change, expected in (
            ({"window": 9}, "window 9, downsampling factor 2"),
            ({"factor": 4}, "window 5, downsampling factor 4"),
        ):
            other = msgspec.structs.replace(GEOMETRY, **change)
            client = RealtimeClient(session(video, address, tmp_path, geometry=other, model_id="vitdet-7"))
            with pytest.raises(UserError, match=f"serves blob with window 5, .* this client expects {expected}"):
                client.play()


def test_an_error_of_an_estimator_in_its_thread_ends_the_run(video: VideoSpec, tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        options = {"policy_kind": "tests.client.test_realtime:FailsAhead"}
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path, **options))
        with pytest.raises(ZeroDivisionError, match="of frame 0"):
            client.play()


def test_boxes_of_a_halved_frame_are_those_of_the_captured_one(video: VideoSpec, tmp_path: Path) -> None:
    with blob_server(tmp_path) as server:
        options = {"policy": "trackud", "policy_options": {"latency_threshold_s": 1e-6}}
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path, **options))
        client.play()
    offloads = [o for o in client.recorder.offloads() if o.status == "ok"]
    assert [o.frame_downsampling for o in offloads[:3]] == [1, 2, 2]
    assert offloads[1].payload_bytes < 0.6 * offloads[0].payload_bytes  # type: ignore[operator]
    for o in offloads:
        assert np.abs(o.detections.boxes_xyxy[0] - red_box(o.frame_index)).max() <= 3


def test_every_decision_of_vitmalis_is_explained(
    video: VideoSpec, tmp_path: Path, vitmalis_options: dict[str, str]
) -> None:
    with blob_server(tmp_path) as server:
        options = {"policy": "wo_mlps", "policy_kind": "vitmalis", "policy_options": vitmalis_options}
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path, **options))
        client.play()
    offloads, decisions = client.recorder.offloads(), client.recorder.decisions()
    assert [d.offload_id for d in decisions] == [o.offload_id for o in offloads]
    assert all(o.status == "ok" for o in offloads), [o.reason for o in offloads]
    assert (offloads[0].tau_d, offloads[0].motion_s) == (0, None), "nothing is known at first"
    last = offloads[-1]
    assert last.downsampled_regions > 0, "a wall without objects is sent at low resolution"
    assert last.motion_s is not None
    assert last.decision_s >= last.estimation_s + last.optimization_s  # type: ignore[operator]


def test_missing_clip_is_an_error_before_anything_plays(video: VideoSpec, tmp_path: Path) -> None:
    missing = VideoSpec("gone", str(tmp_path / "gone.mp4"), FPS, 0, FRAMES, WIDTH, HEIGHT)
    with blob_server(tmp_path) as server:
        client = RealtimeClient(session(missing, server.wait_ready()["ready"], tmp_path))
        with pytest.raises(UserError, match="there is no file"):
            client.play()


def test_interrupted_process_keeps_the_records_it_has(video: VideoSpec, tmp_path: Path) -> None:
    slow = VideoSpec(video.name, video.path, 4.0, 0, FRAMES, WIDTH, HEIGHT)
    with blob_server(tmp_path) as server:
        write_session(session(slow, server.wait_ready()["ready"], tmp_path), tmp_path / "session.json")
        command = [sys.executable, "-m", "vitmalis.client", "--session", str(tmp_path / "session.json")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            for line in client.stdout:
                if '"progress": 4' in line:
                    client.send_signal(signal.SIGINT)
                    break
            rest = client.stdout.read()
            assert client.wait(30) == 130
    assert '{"done": false}' in rest
    assert 4 <= len(read_frames(tmp_path / FRAMES_FILE)) < FRAMES
    assert read_offloads(tmp_path / OFFLOADS_FILE)[0].status == "ok"
    assert read_info(tmp_path / FRAMES_FILE).policy == "trackb2b"


def test_a_mistake_is_reported_where_the_log_has_no_room(tmp_path: Path) -> None:
    """On standard output, a pipe, as the log may lie on the full disk that the mistake is about."""
    command = [sys.executable, "-m", "vitmalis.client", "--session", str(tmp_path / "missing.json")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.returncode == 2
    assert "missing.json' cannot be read" in json.loads(done.stdout)["error"]


def test_client_reconnects_to_a_server_that_is_silent_for_a_while(video: VideoSpec, tmp_path: Path) -> None:
    """A stopped server answers nothing: the offload is lost, the client reconnects and goes on once the server does."""
    with blob_server(tmp_path) as server:
        address = server.wait_ready()["ready"]

        def progress(frames: int, offloads: int, lost: int) -> None:
            if frames == 8:
                os.kill(server.pid, signal.SIGSTOP)
            if frames == 24:
                os.kill(server.pid, signal.SIGCONT)

        client = RealtimeClient(session(video, address, tmp_path, offload_timeout_s=0.3), progress)
        client.play()
    offloads = client.recorder.offloads()
    lost = [o for o in offloads if o.status == "lost"]
    assert lost
    assert "no answer within 0.3 s" in lost[0].reason
    after = [o for o in offloads if o.status == "ok" and o.start_time_s > 24 / FPS]
    assert after, "offloading goes on once the server does"
    assert len(client.recorder.frames()) == FRAMES


def test_frames_that_are_not_decoded_in_time_are_recorded_and_warned_of_once(
    video: VideoSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decoder lets the time of every image from number 20 on go by; a warning is due from 3 of 10 frames on."""

    def starved(_: VideoSpec, overdue: Overdue) -> Iterator[RgbImage | None]:
        for index in range(FRAMES):
            while index >= 20 and not overdue(index):
                time.sleep(0.005)
            yield None if index >= 20 else np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    monkeypatch.setattr(realtime, "open_in_time", starved)
    monkeypatch.setattr(delivery_watch, "WINDOW_S", 0.5)
    with blob_server(tmp_path) as server:
        client = RealtimeClient(session(video, server.wait_ready()["ready"], tmp_path), warn=warn)
        client.play()
    frames = client.recorder.frames()
    assert [f.undelivered for f in frames[20:]] == [True] * 20
    assert not any(f.captured for f in frames[20:])
    said = capsys.readouterr()
    reports = list(map(json.loads, said.out.splitlines()))
    warned: list[str] = []
    for report in reports:
        pass_on(report, lambda *_: None, warned.append)
    assert len(warned) == len(reports) == 1
    assert "of the last 10 frames were lost, as their images were not decoded in time" in warned[0]
    assert said.err == f"warning: {warned[0]}\n"
